"""Omni-SR (Wang et al., CVPR 2023); names as in its checkpoints."""

from dataclasses import dataclass

from torch import Tensor, nn

from esc_sr.families.contract import Config, Cost, Network
from esc_sr.families.parts.bands import in_bands, in_bands_at_most
from esc_sr.families.parts.channels import CrossChannel, gathered, spread
from esc_sr.families.parts.gated import GatedFFN, LocalConv, Normed, SpatialGate, filled, whole
from esc_sr.families.parts.norms import LayerNorm, LayerNorm2d
from esc_sr.families.parts.upsampling import DirectShuffle
from esc_sr.families.parts.windows import embedded_biases
from esc_sr.network.attention import SelfAttention, attend_windows


@dataclass(frozen=True)
class OmniSRConfig(Config):
    """Sizes of an Omni-SR; the defaults are those that are published.

    Attributes:
        scale: Enlargement, a whole number from 1.
        dim: Channels of the features.
        groups: Of blocks, each with a 1x1 convolution and a spatial gate behind.
        blocks: In a group.
        window: Side of the windows, and of the grids, px.
    """

    scale: int = 2
    dim: int = 64
    groups: int = 5
    blocks: int = 1
    window: int = 8

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        if min(self.scale, self.groups, self.blocks, self.window) < 1 or self.dim < HEADS or self.dim % HEADS:
            raise ValueError(
                f"scale {self.scale}, {self.groups} groups, {self.blocks} blocks, windows of {self.window} "
                f"must be at least 1, {self.dim} channels a multiple of {HEADS}"
            )


HEADS = 4
"""Of every kind of attention."""


class Attention(SelfAttention):
    """Self-attention of pixels in windows, with a bias for each offset."""

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim, bias=False))
        self.rel_pos_bias = nn.Embedding((2 * window - 1) ** 2, HEADS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C), whole windows, to the same shape."""
        table = embedded_biases(self.rel_pos_bias, self.window, x.device)
        y = attend_windows(self.to_qkv(x).permute(0, 3, 1, 2), table, self.window, self.backend)
        return self.to_out(y.permute(0, 2, 3, 1))


class SpatialAttention2d(nn.Module):
    """Attention of pixels in windows, or of pixels of a grid over the whole picture.

    Attributes:
        grid: Whether it is the latter.
    """

    def __init__(self, dim: int, window: int, grid: bool) -> None:
        super().__init__()
        self.norm, self.fn, self.grid = LayerNorm(dim), Attention(dim, window), grid

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), whole windows, to the same shape."""
        side = self.fn.window
        y = x.permute(0, 2, 3, 1)
        y = gathered(y, side) if self.grid else y
        y = in_bands(lambda band, _: band + self.fn(self.norm(band)), y, side)
        y = spread(y, side) if self.grid else y
        return y.permute(0, 3, 1, 2)


class ChannelAttention2d(nn.Module):
    """Attention of channels on what is normalised, and its input added."""

    def __init__(self, dim: int, window: int, grid: bool) -> None:
        super().__init__()
        self.norm, self.fn = LayerNorm2d(dim), CrossChannel(dim, HEADS, window, grid)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), whole windows, to the same shape."""
        return self.fn(x, self.norm)


class OmniBlock(nn.Module):
    """OSA: attention of pixels and of channels in windows, then over the picture."""

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {"0": LocalConv(dim)}
        for first, grid in ((2, False), (8, True)):
            layers[f"{first}"] = SpatialAttention2d(dim, window, grid)
            layers[f"{first + 2}"] = Normed(LayerNorm2d(dim), GatedFFN(dim))
            layers[f"{first + 3}"] = ChannelAttention2d(dim, window, grid)
            layers[f"{first + 4}"] = Normed(LayerNorm2d(dim), GatedFFN(dim))
        self.layer = nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), whole windows, to the same shape."""
        for layer in self.layer.values():
            x = layer(x)
        return x


class BlockGroup(nn.Module):
    """OSAG: blocks and a 1x1 convolution, whose input is added, and a spatial gate."""

    def __init__(self, config: OmniSRConfig) -> None:
        super().__init__()
        blocks = (OmniBlock(config.dim, config.window) for _ in range(config.blocks))
        self.residual_layer = nn.Sequential(*blocks, nn.Conv2d(config.dim, config.dim, 1))
        self.esa = SpatialGate(config.dim, max(config.dim // 4, 16))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), whole windows, to the same shape."""
        return self.esa(self.residual_layer(x) + x)


class OmniSR(Network):
    """Omni-SR.

    Its grids and gates see the whole picture, so that a part of it has a different result.

    Deviation: sides of up to 8 px are filled up to two windows, so that pooling finds a pixel; the published
    network has no result for these.
    """

    config: OmniSRConfig
    reach = 24

    def __init__(self, config: OmniSRConfig) -> None:
        """Build it with random weights."""
        super().__init__()
        self.config, self.window = config, config.window
        self.inner = ("residual_layer", "output")
        self.residual_layer = nn.Sequential(*(BlockGroup(config) for _ in range(config.groups)))
        self.input = nn.Conv2d(3, config.dim, 3, padding=1)
        self.output = nn.Conv2d(config.dim, config.dim, 3, padding=1)
        self.up = DirectShuffle(config.dim, config.scale)

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`; measured: 12 numbers for each channel, of whole windows, and a band of 8.

        MACs of the norms over channels are taken off: the authors write these out, and nobody counts them.
        """
        dim, blocks = self.config.dim, self.config.groups * self.config.blocks
        height, width = (whole(side, self.window) for side in (height, width))
        cost = in_bands_at_most(12 * dim, 8 * dim, height, width, self.window)
        return cost._replace(macs={"norm": -5 * 6 * blocks * dim * height * width})

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures, as `Network` says; zeros fill them up to whole windows."""
        height, width = lr.shape[2:]
        x = self.input(filled(lr, self.window))
        x = self.output(self.residual_layer(x)) + x
        return self.up(x)[:, :, : self.config.scale * height, : self.config.scale * width]
