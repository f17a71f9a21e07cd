"""HiT-SRF (Zhang et al., ECCV 2024); names as in its checkpoints."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.contract import Cost
from esc_sr.families.parts.bands import in_bands, in_bands_at_most
from esc_sr.families.parts.feed_forward import DepthwiseFFN
from esc_sr.families.parts.norms import LayerNorm
from esc_sr.families.parts.shell import Blocks, Shell, ShellBody, ShellConfig, ShellEncoder
from esc_sr.network.attention import SelfAttention
from esc_sr.network.padding import pad_to_multiple


@dataclass(frozen=True)
class HiTSRFConfig(ShellConfig):
    """Sizes of a HiT-SRF; the defaults are those that are published.

    Attributes:
        heads: Of the correlation of pixels.
        windows: Sides of the windows of a group's blocks, px, one after the other.
        base: Side to which windows that are larger are reduced, px.
        hidden: Channels inside the feed-forward networks.
    """

    heads: int = 6
    windows: tuple[int, ...] = (4, 8, 16, 32, 48, 64)
    base: int = 8
    hidden: int = 120

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        super().__post_init__()
        if min(self.heads, self.base, self.hidden, *self.windows) < 1 or self.dim % (2 * self.heads):
            raise ValueError(f"{self.heads} heads of {self.dim} channels, windows of {self.windows}")
        if self.dim < 16 or max(self.depths) > len(self.windows):
            raise ValueError(f"{self.dim} channels, {max(self.depths)} blocks, {len(self.windows)} windows")
        if any(window > self.base and window % self.base for window in self.windows):
            raise ValueError(f"windows of {self.windows} are no multiples of {self.base}")

    @classmethod
    def of_sizes(cls, sizes: Mapping[str, Any]) -> Self:
        """As `Config.of_sizes`."""
        return super().of_sizes({**sizes, "windows": tuple(sizes["windows"])})


class DualExtraction(nn.Module):
    """DFE: what three convolutions find, times what a 1x1 convolution finds."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        narrow = dim // 5
        self.conv = nn.Sequential(
            nn.Conv2d(dim, narrow, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(narrow, narrow, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(narrow, dim, 1),
        )
        self.linear = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        x = x.permute(0, 3, 1, 2)
        return (self.conv(x) * self.linear(x)).permute(0, 2, 3, 1)


class PositionBias(nn.Module):
    """The bias of each head for an offset, of small linear layers."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.pos_proj = nn.Linear(2, dim)
        for name, out in (("pos1", dim), ("pos2", dim), ("pos3", heads)):
            self.add_module(name, nn.Sequential(LayerNorm(dim), nn.ReLU(), nn.Linear(dim, out)))

    def forward(self, window: int, group: int) -> Tensor:
        """Biases (heads, window^2, (window / group)^2) of pixels, means over squares of `group`."""
        weight = next(self.parameters())
        side = torch.arange(1 - window, window, device=weight.device, dtype=weight.dtype)
        table = self.pos_proj(torch.cartesian_prod(side, side))
        for name in ("pos1", "pos2", "pos3"):
            table = self.get_submodule(name)(table)
        table = table.T.reshape(-1, len(side), len(side))
        table = F.avg_pool2d(table, group, stride=1) if group > 1 else table
        pixels = torch.arange(window, device=weight.device)
        offsets = pixels[:, None] - pixels[::group] + window - group  # (window, window / group)
        bias = table[:, offsets[:, None, :, None], offsets[None, :, None, :]]
        return bias.reshape(len(bias), window**2, -1)


class Correlation(SelfAttention):
    """SCC: pixels of a window by their correlation with its reduced window, channels by that of channels.

    There is no softmax, so that queries may be multiplied by keys and values at once; the backend "naive"
    writes out the correlations.
    """

    def __init__(self, config: HiTSRFConfig, window: int) -> None:
        super().__init__()
        dim, self.heads, self.window = config.dim, config.heads, window
        self.group = max(window // config.base, 1)
        self.qv = DualExtraction(dim)
        self.proj = nn.Linear(dim, dim)
        self.spatial_linear = nn.Linear(self.group**2, 1)
        self.pos = PositionBias(dim // 16, config.heads)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C), of any sides, to the same shape."""
        height, width = x.shape[1:3]
        whole = pad_to_multiple(x.permute(0, 3, 1, 2), self.window).permute(0, 2, 3, 1)
        bias = self.pos(self.window, self.group)
        qv = in_bands(lambda band, _: self.qv(band), whole, halo=1)
        y = in_bands(lambda band, _: self._correlate(band, bias), qv, self.window)
        return y[:, :height, :width]

    def _correlate(self, qv: Tensor, bias: Tensor) -> Tensor:
        """Queries and values (B, H, W, C), whole windows, to (B, H, W, C)."""
        b, height, width, dim = qv.shape
        side = self.window
        x = qv.view(b, height // side, side, width // side, side, dim).transpose(2, 3)
        q, v = x.reshape(-1, side**2, dim).chunk(2, 2)  # each (windows, L, C / 2)
        y = torch.cat((self._pixels(q, v, bias), self._channels(q, v)), 2)
        y = self.proj(y).view(b, height // side, width // side, side, side, dim)
        return y.transpose(2, 3).reshape(b, height, width, dim)

    def _pixels(self, q: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """S-SC: (windows, L, C / 2) to the same shape."""
        windows, length, _ = q.shape
        side, base = self.window, self.window // self.group
        q = q.view(windows, length, self.heads, -1)
        v = v.reshape(windows, base, self.group, base, self.group, -1).permute(0, 1, 3, 5, 2, 4)
        v = self.spatial_linear(v.reshape(windows, base**2, -1, self.group**2))
        v = v.view(windows, base**2, self.heads, -1)  # (windows, reduced L, heads, d)
        scale = 1 / v.shape[3]
        if self.backend == "naive":
            scores = (q.transpose(1, 2) * scale) @ v.permute(0, 2, 3, 1) + bias
            y = (scores @ v.transpose(1, 2)).transpose(1, 2)
        else:
            v = v.transpose(1, 2)  # (windows, heads, reduced L, d)
            columns = v.permute(1, 2, 0, 3).reshape(self.heads, base**2, -1)
            y = (bias @ columns).view(self.heads, side**2, windows, -1).permute(2, 1, 0, 3)
            y = y + (q.transpose(1, 2) @ (v.transpose(2, 3) @ v * scale)).transpose(1, 2)
        return y.reshape(windows, length, -1)

    def _channels(self, q: Tensor, v: Tensor) -> Tensor:
        """C-SC: (windows, L, C / 2) to the same shape."""
        scores = q.transpose(1, 2) @ v / q.shape[1]  # (windows, C / 2, C / 2)
        return (scores @ v.transpose(1, 2)).transpose(1, 2)


class HiTBlock(nn.Module):
    """Correlations in windows and a feed-forward network; what each gives is normalised and added."""

    def __init__(self, config: HiTSRFConfig, window: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.dim)
        self.correlation = Correlation(config, window)
        self.norm2 = LayerNorm(config.dim)
        self.mlp = DepthwiseFFN(config.dim, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        x = x + self.norm1(self.correlation(x))
        return in_bands(lambda band, _: band + self.norm2(self.mlp(band)), x, halo=self.mlp.reach)


class HiTSRFBody(ShellBody):
    """HiT-SRF up to its features: the windows grow from block to block."""

    reach = 24

    def __init__(self, config: HiTSRFConfig) -> None:
        """Build it with random weights."""
        self.window = max(config.windows)
        self.multiple = 8 * math.ceil(self.window / 8)

        def blocks(group: int) -> nn.Module:
            return Blocks(HiTBlock(config, window) for window in config.windows[: config.depths[group]])

        super().__init__(config, blocks)

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`; measured: 6.5 numbers for each channel, of whole windows, and a band of these."""
        height, width = (-(-side // self.window) * self.window for side in (height, width))
        return in_bands_at_most(7 * self.dim, 8 * self.dim, height, width, self.window)


class HiTSRF(HiTSRFBody, Shell):
    """HiT-SRF.

    Deviation: pictures may be smaller than half of a window; they are reflected as often as needed.
    """

    config: HiTSRFConfig


class HiTSRFEncoder(HiTSRFBody, ShellEncoder):
    """HiT-SRF as the encoder of LTE."""
