"""Upsamplers: EDSR's (Lim et al. 2017), of convolutions and pixel shuffles, ESPCN's, and Real-ESRGAN's."""

import math
from collections.abc import Iterable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn


def stages(scale: int) -> list[int]:
    """The factors of the stages of EDSR's.

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


class DirectShuffle(nn.Sequential):
    """One 3x3 convolution to 3 scale^2 channels, and a pixel shuffle (ESPCN, Shi et al. 2016)."""

    def __init__(self, dim: int, scale: int) -> None:
        super().__init__(nn.Conv2d(dim, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))


def enlarge_nearest(
    x: Tensor, ups: Iterable[nn.Module], hr: nn.Module, last: nn.Module, slope: float = 0.2
) -> Tensor:
    """Enlarge x2 by nearest neighbours before each of `ups`, then two more convolutions (Real-ESRGAN).

    Args:
        x: Features (B, dim, H, W).
        ups: A convolution for each doubling.
        hr: The convolution that follows.
        last: The one to RGB.
        slope: Of the leaky ReLU behind all but `last`.

    Returns:
        (B, 3, H', W').
    """
    for up in ups:
        x = F.leaky_relu(up(F.interpolate(x, scale_factor=2, mode="nearest")), slope)
    x = hr(x)
    return last(F.leaky_relu(x, slope))
