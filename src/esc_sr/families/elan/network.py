"""ELAN, an efficient long-range attention network (Zhang et al., ECCV 2022); names as in its checkpoints."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.contract import Config, Cost, Network
from esc_sr.families.parts.bands import in_bands, in_bands_at_most
from esc_sr.families.parts.mean import MeanShift, require_rgb
from esc_sr.families.parts.norms import BatchNorm2d
from esc_sr.families.parts.shell import convolved
from esc_sr.families.parts.upsampling import DirectShuffle
from esc_sr.families.parts.windows import attend_biased
from esc_sr.network.attention import SelfAttention, cut_windows, join_windows
from esc_sr.network.padding import channels_last, pad_to_multiple

WINDOWS = (4, 8, 16)
"""Sides of the windows, px; each has a third of the channels."""

WHITE = 255.0
"""The network computes with colours in this range."""

SHIFTS = ((1, 2), (1, 0), (2, 1), (0, 1), (1, 1))
"""Row and column in a 3x3 kernel that the fifths of the channels see: four neighbours, and the pixel."""


@dataclass(frozen=True)
class ELANConfig(Config):
    """Sizes of an ELAN; the defaults are ELAN-light's.

    Attributes:
        scale: Enlargement, a whole number from 1.
        dim: Channels of the features.
        blocks: How many there are.
        shares: How often a block attends again by the same weights.
        hidden: Channels between two shift convolutions.
    """

    scale: int = 2
    dim: int = 60
    blocks: int = 12
    shares: int = 1
    hidden: int = 120

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        if min(self.scale, self.blocks, self.shares + 1) < 1 or min(self.dim, self.hidden) < len(SHIFTS):
            raise ValueError(f"scale, blocks and channels must be at least 1, 1 and {len(SHIFTS)}: {self}")
        if self.dim % len(WINDOWS):
            raise ValueError(f"{self.dim} channels are no multiple of {len(WINDOWS)}")


class ShiftConv(nn.Module):
    """A 1x1 convolution that sees four neighbours too, of each a fifth of the channels (Sec. 3.2)."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        fifth = dim // len(SHIFTS)
        weight = torch.zeros(dim, 1, 3, 3)
        for number, (row, column) in enumerate(SHIFTS):
            last = number == len(SHIFTS) - 1
            weight[number * fifth : dim if last else (number + 1) * fifth, 0, row, column] = 1
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.conv1x1 = nn.Conv2d(dim, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, H, W)."""
        return self.conv1x1(F.conv2d(x, self.weight, padding=1, groups=x.shape[1]))


class LocalExtraction(nn.Module):
    """LFE: two shift convolutions and ReLU (Sec. 3.2)."""

    reach = 2

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.conv0 = nn.ModuleDict({"shift_conv": ShiftConv(dim, hidden)})
        self.conv1 = nn.ModuleDict({"shift_conv": ShiftConv(hidden, dim)})

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return self.conv1["shift_conv"](F.relu(self.conv0["shift_conv"](x)))


class GroupAttention(SelfAttention):
    """GMSA: self-attention in windows of three sizes, one for each third of the channels (Sec. 3.3).

    Queries are the keys too, and all layers of a block have the queries of its first, and so its weights
    (ASA).

    Deviation: weights are made of queries again in place of being kept, 336 numbers for each pixel.

    Attributes:
        shifted: Whether windows begin in the middle of those of other blocks; pixels of both edges of the
            picture then see each other.
        first: Whether it makes queries.
    """

    def __init__(self, dim: int, shifted: bool, first: bool) -> None:
        super().__init__()
        self.shifted, self.first = shifted, first
        made = (1 + first) * dim
        self.project_inp = nn.Sequential(nn.Conv2d(dim, made, 1), BatchNorm2d(made))
        self.project_out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, queries: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Attend.

        Args:
            x: A map (B, H, W, C), whole windows.
            queries: Of the first layer, for each size of windows (B, H, W, C / 3); for that itself nothing.

        Returns:
            A map of the same shape, and the queries.
        """
        maps = in_bands(lambda band, _: convolved(self.project_inp, band), x).chunk(len(WINDOWS), -1)
        each = iter(maps) if self.first else (torch.cat(pair, -1) for pair in zip(queries, maps, strict=True))
        y = torch.cat([self._attend(qv, window) for qv, window in zip(each, WINDOWS, strict=True)], -1)
        if self.first:
            queries = tuple(qv.chunk(2, -1)[0].clone() for qv in maps)
        del maps
        return in_bands(lambda band, _: convolved(self.project_out, band), y), queries

    def _attend(self, qv: Tensor, window: int) -> Tensor:
        """Queries and values (B, H, W, 2 c) to (B, H, W, c), in windows of some px."""

        def attended(band: Tensor, _: bool) -> Tensor:
            maps = band.permute(0, 3, 1, 2)
            q, v = cut_windows(maps, 1, window, parts=2)
            y = attend_biased(q * q.shape[-1] ** 0.5, q, v, None, self.backend)
            return join_windows(y, maps, window).permute(0, 2, 3, 1)

        return in_bands(attended, qv, window, shift=self.shifted * (window // 2))


class ELANBlock(nn.Module):
    """ELAB: local extraction and self-attention in turns, each added to its input (Sec. 3.4)."""

    def __init__(self, config: ELANConfig, shifted: bool) -> None:
        super().__init__()
        dim, numbers = config.dim, range(config.shares + 1)
        self.modules_lfe = nn.ModuleDict({f"lfe_{i}": LocalExtraction(dim, config.hidden) for i in numbers})
        self.modules_gmsa = nn.ModuleDict(
            {f"gmsa_{i}": GroupAttention(dim, shifted, i == 0) for i in numbers}
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C), whole windows, to the same shape."""
        queries: tuple[Tensor, ...] = ()
        for extract, attend in zip(self.modules_lfe.values(), self.modules_gmsa.values(), strict=True):
            x = self._extracted(extract, x)
            y, queries = attend(x, queries)
            x = x + y
            del y
        return x

    @staticmethod
    def _extracted(extract: nn.Module, x: Tensor) -> Tensor:
        """The map and what is extracted of it."""
        return in_bands(lambda band, _: band + convolved(extract, band), x, halo=LocalExtraction.reach)


class ELAN(Network):
    """ELAN (Sec. 3.1).

    Its windows go around the edges of a picture, and through many blocks it sees far, so that tiles are
    approximate.
    """

    config: ELANConfig
    window = max(WINDOWS)
    reach = 24
    inner = ("body",)

    def __init__(self, config: ELANConfig) -> None:
        """Build it with random weights."""
        super().__init__()
        self.config = config
        self.sub_mean, self.add_mean = MeanShift(-1, WHITE), MeanShift(1, WHITE)
        self.head = nn.Sequential(nn.Conv2d(3, config.dim, 3, padding=1))
        self.body = nn.Sequential(*(ELANBlock(config, number % 2 == 1) for number in range(config.blocks)))
        self.tail = DirectShuffle(config.dim, config.scale)

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`; measured: 7.2 numbers for each channel, of whole windows, and a band of 10.

        MACs of the convolutions that mean colours are in its authors' code are added, those of weights that
        are made again, where they keep them, taken off.
        """
        config = self.config
        height, width = (-(-side // self.window) * self.window for side in (height, width))
        means = 9 * (1 + config.scale**2)
        again = config.blocks * config.shares * config.dim // len(WINDOWS) * sum(w**2 for w in WINDOWS)
        cost = in_bands_at_most(15 * config.dim // 2, 12 * config.dim, height, width, self.window)
        pixels = height * width
        return cost._replace(macs={"conv": means * pixels, "attention": -again * pixels})

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures, as `Network` says."""
        require_rgb(lr)
        height, width = (self.config.scale * side for side in lr.shape[2:])
        x = self.sub_mean(pad_to_multiple(lr, self.window) * WHITE)
        x = self.head(channels_last(x))
        x = x + self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.add_mean(self.tail(x)[:, :, :height, :width]) / WHITE
