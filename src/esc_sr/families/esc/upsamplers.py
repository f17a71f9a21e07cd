"""Features to picture: the upsamplers U and the long skips S of every variant (Sec. 3.2, Supp. 6)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.network.padding import reflect_pad

UPSAMPLERS = (
    "pixelshuffledirect",
    "pixelshuffle",
    "nearest+conv",
    "realesrgan",
    "dysample",
    "dysampledirect",
)
SKIPS = ("nearest", "bicubic", "conv")


def build_upsampler(kind: str, dim: int, width: int, scale: int) -> nn.Sequential:
    """Build the layers that turn features (B, dim, H, W) into a picture (B, 3, scale H, scale W).

    Args:
        kind: pixelshuffledirect: one convolution and a pixel shuffle, as in classic ESC (Supp. 6.1).
            realesrgan: nearest enlargement before each convolution, as in ESC-Real (Supp. 6.3); x4 only.
            nearest+conv: convolution before each enlargement; pixelshuffle: shuffles by 2 (or once by 3);
            dysample: learned sampling points; these three are ESC-Real-M's. dysampledirect: without a
            convolution before.
        dim: Channels of the features.
        width: Channels inside pixelshuffle and dysample.
        scale: Enlargement.

    Returns:
        The layers in order.

    Raises:
        ValueError: No such upsampler, or not at this scale.
    """
    if kind == "pixelshuffledirect":
        return nn.Sequential(_conv(dim, 3 * scale**2), nn.PixelShuffle(scale))
    if kind == "dysampledirect":
        return nn.Sequential(DySample(dim, scale))
    if kind == "dysample":
        return nn.Sequential(_conv(dim, width), nn.LeakyReLU(), DySample(width, scale))
    if kind == "realesrgan" and scale == 4:
        step = [nn.UpsamplingNearest2d(scale_factor=2), _conv(dim, dim), nn.LeakyReLU(0.2)]
        again = [nn.UpsamplingNearest2d(scale_factor=2), _conv(dim, dim), nn.LeakyReLU(0.2)]
        return nn.Sequential(*step, *again, _conv(dim, dim), nn.LeakyReLU(0.2), _conv(dim, 3))
    if kind == "pixelshuffle":
        shuffles = [m for s in _steps(scale) for m in (_conv(width, s * s * width), nn.PixelShuffle(s))]
        return nn.Sequential(_conv(dim, width), nn.LeakyReLU(), *shuffles, _conv(width, 3))
    if kind == "nearest+conv":
        layers: list[nn.Module] = []
        for s in _steps(scale):
            layers += [_conv(dim, dim), nn.UpsamplingNearest2d(scale_factor=s), nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers, _conv(dim, dim), nn.LeakyReLU(0.2), _conv(dim, 3))
    raise ValueError(
        f"upsampler {kind!r} at scale {scale}: there are {', '.join(UPSAMPLERS)} (realesrgan: x4 only)"
    )


def _steps(scale: int) -> list[int]:
    return [2] * int(math.log2(scale)) if scale & (scale - 1) == 0 else [scale]


def _conv(dim: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(dim, out, 3, padding=1)


class DySample(nn.Module):
    """Enlargement by sampling each output pixel at a learned point, then a 1x1 convolution to RGB."""

    groups = 4

    def __init__(self, dim: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        points = 2 * self.groups * scale**2
        self.offset = nn.Conv2d(dim, points, 1)
        self.scope = nn.Conv2d(dim, points, 1, bias=False)
        self.end_conv = nn.Conv2d(dim, 3, 1)
        nn.init.trunc_normal_(self.offset.weight, std=0.02)
        nn.init.zeros_(self.scope.weight)
        start = (torch.arange(scale) - (scale - 1) / 2) / scale
        grid = torch.stack(torch.meshgrid(start, start, indexing="xy"))  # (2, s, s): x, y
        self.register_buffer("init_pos", grid.repeat_interleave(self.groups, 0).reshape(1, -1, 1, 1))
        self.init_pos: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 3, s H, s W)."""
        b, c, h, w = x.shape
        s, g = self.scale, self.groups
        moves = self.offset(x) * self.scope(x).sigmoid() * 0.5 + self.init_pos  # (B, 2 g s^2, H, W) in pixels
        moves = F.pixel_shuffle(moves, s).view(b, 2, g, s * h, s * w)
        columns = (torch.arange(w, device=x.device, dtype=x.dtype) + 0.5).repeat_interleave(s)
        rows = (torch.arange(h, device=x.device, dtype=x.dtype) + 0.5).repeat_interleave(s)[:, None]
        at = (
            torch.stack(((moves[:, 0] + columns) / w, (moves[:, 1] + rows) / h), -1) * 2 - 1
        )  # (B, g, sH, sW, 2)
        y = F.grid_sample(
            x.reshape(b * g, -1, h, w), at.flatten(0, 1), padding_mode="border", align_corners=False
        )
        return self.end_conv(y.view(b, c, s * h, s * w))


class ConvSkip(nn.Sequential):
    """Long skip of ESC-Real: 1x1, depthwise 7x7 and 1x1 convolutions on the picture (Supp. 6.3)."""

    reach = 3

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__(
            nn.Conv2d(channels, 2 * dim, 1),
            nn.Conv2d(2 * dim, 2 * dim, 7, groups=2 * dim),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * dim, dim, 1),
        )

    def forward(self, lr: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, dim, H, W)."""
        widen, spread, activate, narrow = self
        border = (self.reach,) * 4
        y: Tensor = narrow(activate(spread(reflect_pad(widen(lr), *border))))
        return y
