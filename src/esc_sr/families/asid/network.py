"""ASID: attention is shared, information distilled (Park et al., AAAI 2025); names as in its checkpoints."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from esc_sr.families.contract import Config, Cost, Network
from esc_sr.families.parts.bands import in_bands, in_bands_at_most
from esc_sr.families.parts.channels import CrossChannel, gathered, spread
from esc_sr.families.parts.gated import GatedFFN, LocalConv, SpatialGate, added, filled, whole
from esc_sr.families.parts.norms import LayerNorm, LayerNorm2d
from esc_sr.families.parts.upsampling import DirectShuffle
from esc_sr.families.parts.windows import embedded_biases
from esc_sr.network.attention import SelfAttention, attend_windows

STEPS = 3
"""How often a quarter of the channels is set aside in a block."""


@dataclass(frozen=True)
class ASIDConfig(Config):
    """Sizes of an ASID; the defaults are ASID-D8's.

    Attributes:
        scale: Enlargement, a whole number from 1.
        dim: Channels of the features, a multiple of 16.
        blocks: How many there are; the first one's attention is that of all.
        window: Side of the windows, and of the grids, px.
    """

    scale: int = 2
    dim: int = 48
    blocks: int = 8
    window: int = 8

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        if min(self.scale, self.blocks, self.window) < 1 or self.dim < 16 or self.dim % 16:
            raise ValueError(
                f"scale, blocks and windows must be at least 1, channels a multiple of 16: {self}"
            )


class Shared(NamedTuple):
    """What pixels attend by, in all blocks.

    Attributes:
        qk: Queries and keys (B, H, W, 2 d).
        table: Biases as of `attention.attend_windows`.
    """

    qk: Tensor
    table: Tensor


class SharedAttention(SelfAttention):
    """Self-attention of pixels in windows by queries and keys of the first block, which are those of all.

    Deviation: weights are made of them again in place of being kept, which takes more memory.
    """

    def __init__(self, dim: int, window: int, first: bool) -> None:
        super().__init__()
        self.dim, self.window, self.first = dim, window, first
        if first:
            self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
            self.rel_pos_bias = nn.Embedding((2 * window - 1) ** 2, 1)
        else:
            self.to_v = nn.Linear(dim, dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim, bias=False))

    def forward(self, x: Tensor, norm: nn.Module, shared: Shared | None) -> tuple[Tensor, Shared]:
        """Attend.

        Args:
            x: A map (B, H, W, C), whole windows.
            norm: Normalises it first.
            shared: What the first block gives; for that itself nothing.

        Returns:
            A map of the same shape, and what is shared.
        """
        made = in_bands(lambda band, _: (self.to_v if shared else self.to_qkv)(norm(band)), x)
        qkv = torch.cat((shared.qk, made), -1) if shared else made
        if shared is None:
            table = embedded_biases(self.rel_pos_bias, self.window, x.device)
            shared = Shared(made[..., : 2 * self.dim].clone(), table)
        del made
        return in_bands(lambda band, _: self._attend(band, shared.table), qkv, self.window), shared

    def _attend(self, qkv: Tensor, table: Tensor) -> Tensor:
        """Queries, keys and values (B, H, W, 3 C), whole windows, to (B, H, W, C)."""
        y = attend_windows(qkv.permute(0, 3, 1, 2), table, self.window, self.backend)
        return self.to_out(y.permute(0, 2, 3, 1))


class SpatialBlock(nn.Module):
    """Attention of pixels in windows, or of those of a grid over the picture, and a gated network."""

    def __init__(self, dim: int, window: int, grid: bool, first: bool) -> None:
        super().__init__()
        self.grid = grid
        self.norm, self.attn = LayerNorm(dim), SharedAttention(dim, window, first)
        self.cnorm, self.gfn = LayerNorm2d(dim), GatedFFN(dim)

    def forward(self, x: Tensor, shared: Shared | None) -> tuple[Tensor, Shared]:
        """(B, C, H, W), whole windows, to the same shape; and what is shared."""
        y = x.permute(0, 2, 3, 1)
        y = gathered(y, self.attn.window) if self.grid else y
        y, shared = self.attn(y, self.norm, shared)
        y = spread(y, self.attn.window) if self.grid else y
        return added(x + y.permute(0, 3, 1, 2), self.cnorm, self.gfn), shared


class ChannelStage(nn.Module):
    """Attention of channels in windows, then over the picture, each with a gated network behind."""

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        for number, grid in ((1, False), (2, True)):
            self.add_module(f"canorm{number}", LayerNorm2d(dim))
            self.add_module(f"cttn{number}", CrossChannel(dim, 1, window, grid))
            self.add_module(f"cnorm{number}", LayerNorm2d(dim))
            self.add_module(f"gfn{number}", GatedFFN(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), whole windows, to the same shape."""
        part = self.get_submodule
        for number in (1, 2):
            x = part(f"cttn{number}")(x, part(f"canorm{number}"))
            x = added(x, part(f"cnorm{number}"), part(f"gfn{number}"))
        return x


class Distillation(nn.Module):
    """IDSA: of ever fewer channels, a quarter is kept and the others attend (Sec. 3.2)."""

    def __init__(self, config: ASIDConfig, first: bool) -> None:
        super().__init__()
        self.quarter = config.dim // 4
        for step in range(1, STEPS + 1):
            width = config.dim - (step - 1) * self.quarter  # that of the step
            self.add_module(f"LB{step}", nn.ModuleDict({"net": LocalConv(width)}))
            for name, grid in (("SLA", False), ("SGA", True)):
                block = SpatialBlock(width - self.quarter, config.window, grid, first)
                self.add_module(f"{name}{step}", block)
            joined = width if step < STEPS else config.dim
            self.add_module(f"pw{step}", nn.Conv2d(joined, joined, 1))
        self.BlockC = ChannelStage(config.dim, config.window)

    def forward(self, x: Tensor, shared: list[Shared]) -> tuple[Tensor, list[Shared]]:
        """(B, C, H, W), whole windows, to the same shape; and what is shared, of each attention."""
        x, shared = self._distilled(x, shared)
        return self.BlockC(x), shared

    def _distilled(self, x: Tensor, shared: list[Shared]) -> tuple[Tensor, list[Shared]]:
        """The same without attention of channels."""
        part, kept, found = self.get_submodule, list[Tensor](), list[Shared]()
        for step in range(1, STEPS + 1):
            local, x = self._cut(part(f"LB{step}.net")(x))
            for name in (f"SLA{step}", f"SGA{step}"):
                x, one = part(name)(x, shared[len(found)] if shared else None)
                found.append(one)
            if step < STEPS:
                one_kept, x = self._cut(part(f"pw{step}")(torch.cat((x, local), 1)))
                kept.append(one_kept)
        return part(f"pw{STEPS}")(torch.cat((*kept, x, local), 1)), found

    def _cut(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The first quarter of the network's channels, and the others that there are."""
        return x[:, : self.quarter], x[:, self.quarter :]


class ASIDBlock(nn.Module):
    """IDSG: distillation and a 1x1 convolution, whose input is added, and a spatial gate (Sec. 3.1)."""

    def __init__(self, config: ASIDConfig, first: bool) -> None:
        super().__init__()
        layer = Distillation(config, first)
        self.residual_layer = nn.ModuleList([layer]) if first else layer
        self.res_end = nn.Conv2d(config.dim, config.dim, 1)
        self.esa = SpatialGate(config.dim, max(config.dim // 4, 16))

    def forward(self, x: Tensor, shared: list[Shared]) -> tuple[Tensor, list[Shared]]:
        """As `Distillation.forward`."""
        layer = self.residual_layer
        y, shared = (layer[0] if isinstance(layer, nn.ModuleList) else layer)(x, shared)
        return self.esa(self.res_end(y) + x), shared


class ASID(Network):
    """ASID (Sec. 3.1).

    Its grids and gates see the whole picture, so that a part of it has a different result.

    Deviation: sides of up to 8 px are filled up to two windows, so that pooling finds a pixel; the published
    network has no result for these.
    """

    config: ASIDConfig
    reach = 24

    def __init__(self, config: ASIDConfig) -> None:
        """Build it with random weights."""
        super().__init__()
        self.config, self.window = config, config.window
        names = tuple(f"block{number}" for number in range(config.blocks))
        self.inner = (*names, "output")
        for number, name in enumerate(names):
            self.add_module(name, ASIDBlock(config, number == 0))
        self.input = nn.Conv2d(3, config.dim, 3, padding=1)
        self.output = nn.Conv2d(config.dim, config.dim, 3, padding=1)
        self.up = DirectShuffle(config.dim, config.scale)

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`; measured: 19 numbers for each channel, of whole windows, and a band of 8.

        MACs of norms are taken off, which the paper does not count, and those of weights that are made again,
        where its authors keep them.
        """
        config = self.config
        height, width = (whole(side, self.window) for side in (height, width))
        attending = 2 * (3 + 2 + 1) * config.dim // 4  # channels of all attentions of a block
        norms = 5 * config.blocks * (2 * attending + 4 * config.dim)
        again = (config.blocks - 1) * attending * config.window**2
        cost = in_bands_at_most(19 * config.dim, 8 * config.dim, height, width, self.window)
        pixels = height * width
        return cost._replace(macs={"norm": -norms * pixels, "attention": -again * pixels})

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures, as `Network` says; zeros fill them up to whole windows."""
        height, width = lr.shape[2:]
        x = self.input(filled(lr, self.window))
        y, shared = x, list[Shared]()
        for number in range(self.config.blocks):
            y, shared = self.get_submodule(f"block{number}")(y, shared)
        return self.up(self.output(y) + x)[:, :, : self.config.scale * height, : self.config.scale * width]
