"""Omni-SR (Wang et al., CVPR 2023); names as in its checkpoints."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.contract import Config, Cost, Network
from esc_sr.families.parts.bands import in_bands, in_bands_at_most
from esc_sr.families.parts.gated import LEAST, GatedFFN, LocalConv, Normed, SpatialGate
from esc_sr.families.parts.norms import LayerNorm, LayerNorm2d
from esc_sr.families.parts.shell import convolved
from esc_sr.families.parts.upsampling import DirectShuffle
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
        table = self.rel_pos_bias.weight.T.flip(1)  # query minus key here, key minus query there
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


def gathered(x: Tensor, side: int) -> Tensor:
    """Move the pixels of each grid of side x side over a map (B, H, W, C) into a window."""
    b, height, width, dim = x.shape
    x = x.view(b, side, height // side, side, width // side, dim).permute(0, 2, 1, 4, 3, 5)
    return x.reshape(b, height, width, dim)


def spread(x: Tensor, side: int) -> Tensor:
    """Move what `gathered` moved back to where it was."""
    b, height, width, dim = x.shape
    x = x.view(b, height // side, side, width // side, side, dim).permute(0, 2, 1, 4, 3, 5)
    return x.reshape(b, height, width, dim)


class CrossChannel(nn.Module):
    """Attention of channels, by their pixels in windows, or by those of a grid over the whole picture."""

    def __init__(self, dim: int, window: int, grid: bool) -> None:
        super().__init__()
        self.window, self.grid = window, grid
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, qkv: Tensor) -> Tensor:
        """Queries, keys and values (B, H, W, 3 C), whole windows, to what they attend to (B, H, W, C)."""
        b, height, width, _ = qkv.shape
        side = self.window
        # (B, down, in window, across, in window, three, heads, d) to (three, B, groups, heads, d, pixels)
        qkv = qkv.view(b, height // side, side, width // side, side, 3, HEADS, -1)
        qkv = qkv.permute((5, 0, 2, 4, 6, 7, 1, 3) if self.grid else (5, 0, 1, 3, 6, 7, 2, 4))
        q, k = (part.flatten(5).flatten(1, 2) for part in qkv[:2])
        sizes = (part.norm(dim=-1).clamp(min=1e-12) for part in (q, k))
        scores = (q @ k.transpose(-2, -1)) / (next(sizes)[..., None] * next(sizes)[..., None, :])
        del q, k
        y = (scores * self.temperature).softmax(-1) @ qkv[2].flatten(5).flatten(1, 2)
        y = y.view(qkv.shape[1:])  # (B, ., ., heads, d, ., .)
        y = y.permute((0, 5, 1, 6, 2, 3, 4) if self.grid else (0, 1, 5, 2, 6, 3, 4))
        return convolved(self.project_out, y.reshape(b, height, width, -1))


class ChannelAttention2d(nn.Module):
    """`CrossChannel` on what is normalised, and its input added."""

    def __init__(self, dim: int, window: int, grid: bool) -> None:
        super().__init__()
        self.norm, self.fn = LayerNorm2d(dim), CrossChannel(dim, window, grid)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), whole windows, to the same shape."""
        x, side = x.permute(0, 2, 3, 1), self.fn.window
        if self.fn.grid:
            y = x + self.fn(in_bands(self._qkv, x, halo=1))
        else:
            y = in_bands(lambda band, _: band + self.fn(self._qkv(band)), x, side, halo=side)
        return y.permute(0, 3, 1, 2)

    def _qkv(self, x: Tensor, _last: bool = True) -> Tensor:
        """(B, H, W, C) to queries, keys and values (B, H, W, 3 C); reaches 1 pixel far."""
        y = self.norm(x.permute(0, 3, 1, 2))
        return self.fn.qkv_dwconv(self.fn.qkv(y)).permute(0, 2, 3, 1)


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
        height, width = (self._whole(side) for side in (height, width))
        cost = in_bands_at_most(12 * dim, 8 * dim, height, width, self.window)
        return cost._replace(macs=-5 * 6 * blocks * dim * height * width)

    def _whole(self, side: int) -> int:
        """A side of whole windows, of which pooling leaves a pixel."""
        return -(-max(side, LEAST) // self.window) * self.window

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures, as `Network` says; zeros fill them up to whole windows."""
        height, width = lr.shape[2:]
        below, right = (self._whole(side) - side for side in (height, width))
        x = F.pad(lr, (0, right, 0, below)).contiguous(memory_format=torch.channels_last)
        x = self.input(x)
        x = self.output(self.residual_layer(x)) + x
        return self.up(x)[:, :, : self.config.scale * height, : self.config.scale * width]
