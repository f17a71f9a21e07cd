"""The upsampler of EDSR (Lim et al. 2017): convolutions and pixel shuffles, in stages of 2, or one of 3."""

import math
from collections.abc import Mapping

from torch import nn


def stages(scale: int) -> list[int]:
    """The factors of the stages.

    Raises:
        ValueError: The scale is neither 3 nor a power of 2.
    """
    if scale == 3:
        return [3]
    if scale < 1 or scale & (scale - 1):
        raise ValueError(f"scale {scale} is neither 3 nor a power of 2")
    return [2] * (scale.bit_length() - 1)


def upsampler(dim: int, scale: int) -> list[nn.Module]:
    """Its layers, (B, dim, H, W) to (B, dim, scale H, scale W); a convolution has every second number."""
    layers: list[nn.Module] = []
    for factor in stages(scale):
        layers += [nn.Conv2d(dim, dim * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
    return layers


def upsampler_scale(shapes: Mapping[str, tuple[int, ...]], start: str, dim: int) -> int:
    """Tell the scale from `start`0.weight, `start`2.weight, ..., as far as these make `dim` channels or more.

    Raises:
        ValueError: They make no picture larger by a whole number.
    """
    scale, number = 1, 0
    while (name := f"{start}{number}.weight") in shapes and shapes[name][0] >= dim:
        channels = shapes[name][0]
        factor = math.isqrt(channels // dim)
        if factor not in (2, 3) or channels != dim * factor**2:
            raise ValueError(f"{name} makes {channels} channels of {dim}")
        scale, number = scale * factor, number + 2
    return scale


def upsampler_numbers(dim: int, scale: int) -> int:
    """Numbers for each pixel of its input that are alive around its last shuffle."""
    return 2 * dim * scale**2
