"""SwinIR (Liang et al., ICCVW 2021); names as in its checkpoints."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.contract import Cost
from esc_sr.families.parts.bands import in_bands, in_bands_at_most
from esc_sr.families.parts.norms import LayerNorm
from esc_sr.families.parts.shell import Blocks, Shell, ShellConfig, conv3x3
from esc_sr.families.parts.upsampling import enlarge_nearest
from esc_sr.families.parts.windows import ShiftedAttention

UPSAMPLERS = ("pixelshuffledirect", "nearest+conv")

WIDTH = 64
"""Channels of the second of them."""


@dataclass(frozen=True)
class SwinIRConfig(ShellConfig):
    """Sizes of a SwinIR; the defaults are SwinIR-light's.

    Attributes:
        heads: Of self-attention.
        window: Side of its windows, px.
        hidden: Channels inside the MLPs.
        convs: Convolutions behind the blocks of a group: 1, or 3 with a narrow one in the middle.
        upsampler: One of `UPSAMPLERS`.
    """

    heads: int = 6
    window: int = 8
    hidden: int = 120
    convs: int = 1
    upsampler: str = UPSAMPLERS[0]

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        super().__post_init__()
        if min(self.heads, self.window, self.hidden) < 1 or self.dim % self.heads:
            raise ValueError(
                f"{self.heads} heads of {self.dim} channels, windows of {self.window}, {self.hidden} in MLPs"
            )
        if self.convs not in (1, 3) or self.upsampler not in UPSAMPLERS:
            raise ValueError(f"{self.convs} convolutions, upsampler {self.upsampler!r}")
        if self.upsampler == UPSAMPLERS[1] and self.scale != 4:
            raise ValueError(f"{self.upsampler} enlarges x4, not x{self.scale}")


class SwinAttention(ShiftedAttention):
    """Self-attention in windows, shifted or not."""

    def __init__(self, dim: int, window: int, heads: int, shift: int) -> None:
        super().__init__(dim, window, heads, shift)
        self.qkv = nn.Linear(dim, 3 * dim)


class MLP(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """STL: self-attention in windows and an MLP, each on what is normalised, and added to it."""

    def __init__(self, config: SwinIRConfig, shift: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.dim)
        self.attn = SwinAttention(config.dim, config.window, config.heads, shift)
        self.norm2 = LayerNorm(config.dim)
        self.mlp = MLP(config.dim, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C), whole windows, to the same shape."""
        x = x + self.attn(x, lambda band: self.attn.qkv(self.norm1(band)))
        return in_bands(lambda band, _: band + self.mlp(self.norm2(band)), x)


def narrowing(dim: int) -> nn.Module:
    """Three convolutions, the middle one of a quarter of the channels."""
    narrow = dim // 4
    return nn.Sequential(
        nn.Conv2d(dim, narrow, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(narrow, narrow, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(narrow, dim, 3, padding=1),
    )


class SwinIR(Shell):
    """SwinIR.

    Deviation: no block is left out at random in training (stochastic depth, 0.1 in the authors' code).
    """

    config: SwinIRConfig
    reach = 24

    def __init__(self, config: SwinIRConfig) -> None:
        """Build it with random weights."""
        self.window = self.whole = config.window

        def blocks(group: int) -> nn.Module:
            shifts = (number % 2 * (config.window // 2) for number in range(config.depths[group]))
            return Blocks(SwinBlock(config, shift) for shift in shifts)

        super().__init__(config, blocks, narrowing if config.convs == 3 else conv3x3)

    def build_upsampler(self) -> None:
        """As `Shell.build_upsampler`."""
        if self.config.upsampler == UPSAMPLERS[0]:
            return super().build_upsampler()
        self.conv_before_upsample = nn.Sequential(
            nn.Conv2d(self.config.dim, WIDTH, 3, padding=1), nn.LeakyReLU()
        )
        self.conv_up1, self.conv_up2, self.conv_hr = (conv3x3(WIDTH) for _ in range(3))
        self.conv_last = nn.Conv2d(WIDTH, 3, 3, padding=1)

    def upsampled(self, x: Tensor) -> Tensor:
        """As `Shell.upsampled`."""
        if self.config.upsampler == UPSAMPLERS[0]:
            return super().upsampled(x)
        x, ups = self.conv_before_upsample(x), (self.conv_up1, self.conv_up2)
        return enlarge_nearest(x, ups, self.conv_hr, self.conv_last)

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`.

        Measured: 6.5 numbers for each channel and a band; or two maps of the enlarged picture and 3 for each.
        """
        config, numbers = self.config, 7 * self.config.dim
        if config.upsampler == UPSAMPLERS[1]:
            numbers = max(numbers, 2 * config.scale**2 * WIDTH + 3 * config.dim)
        return in_bands_at_most(numbers, 12 * config.dim, height, width)
