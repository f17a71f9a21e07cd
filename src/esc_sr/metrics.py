"""PSNR and SSIM as the field reports them: on Y, which is not rounded, a border cut off; PSNR on RGB."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from esc_sr.errors import UsageError
from esc_sr.image import read_image, to_rgb8

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def luma(rgb: NDArray[np.uint8] | Tensor) -> Tensor:
    """Y of BT.601, not rounded; differentiable.

    Args:
        rgb: array (..., H, W, 3) or tensor (..., 3, H, W), uint8 or floating, 0..255.

    Returns:
        (..., H, W) float64, 16..235, on the tensor's device.

    Raises:
        UsageError: there are not three channels in that place.
    """
    if isinstance(rgb, Tensor):
        pixels = rgb.double().movedim(-3, -1)
    else:
        pixels = torch.from_numpy(np.asarray(rgb, dtype=np.float64))
    if pixels.shape[-1] != 3:
        raise UsageError(
            f"no luma of shape {tuple(rgb.shape)}: pass an array (..., H, W, 3) or a tensor (..., 3, H, W)"
        )
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64, device=pixels.device)
    return pixels / 255 @ weights + 16


def psnr(a: Tensor, b: Tensor, border: int = 0) -> Tensor:
    """Peak signal-to-noise ratio of each plane, dB; differentiable where the two differ.

    Args:
        a: (..., H, W), 0..255, for example from `luma`.
        b: the same shape.
        border: px cut off every side first, by convention the scale.

    Returns:
        (...) float64; infinite where the two are equal.

    Raises:
        UsageError: shapes differ, or nothing is left inside the border.
    """
    a, b = _interior(a, b, border, least=1)
    return _decibels((a - b).square().mean(dim=(-2, -1)))


def rgb_psnr(a: Tensor, b: Tensor, border: int = 0) -> Tensor:
    """Peak signal-to-noise ratio of all channels together, dB; differentiable where the two differ.

    Args:
        a: (..., C, H, W), 0..255. For arbitrary scale (Table 5) the network's output is clamped to this
            range and not rounded.
        b: the same shape.
        border: px cut off every side first, for arbitrary scale by convention the scale + 6.

    Returns:
        (...) float64; infinite where the two are equal.

    Raises:
        UsageError: shapes differ, or nothing is left inside the border.
    """
    a, b = _interior(a, b, border, least=1)
    return _decibels((a - b).square().mean(dim=(-3, -2, -1)))


def ssim(a: Tensor, b: Tensor, border: int = 0) -> Tensor:
    """Structural similarity with the usual Gaussian window (11 x 11, sigma 1.5), where it lies fully inside.

    Args:
        a: (..., H, W), 0..255, for example from `luma`.
        b: the same shape.
        border: px cut off every side first, by convention the scale.

    Returns:
        (...) float64, at most 1.

    Raises:
        UsageError: shapes differ, or less than 11 x 11 px are left inside the border.
    """
    a, b = _interior(a, b, border, least=_WINDOW)
    mean_a, mean_b = _blur(a), _blur(b)
    var_a = _blur(a * a) - mean_a * mean_a
    var_b = _blur(b * b) - mean_b * mean_b
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a * mean_a + mean_b * mean_b + _C1)
    structure = (2 * covariance + _C2) / (var_a + var_b + _C2)
    return (luminance * structure).mean(dim=(-2, -1))


class Comparison(NamedTuple):
    """How near a picture is to another: PSNR (dB) and SSIM on Y, PSNR (dB) on RGB."""

    psnr: float
    ssim: float
    rgb_psnr: float


def compare(a: Path, b: Path, border: int = 0) -> Comparison:
    """Measure a picture file against another, as 8-bit RGB: grey repeated, alpha dropped, profiles ignored.

    Args:
        a: any picture file.
        b: one of the same size.
        border: px cut off every side first, by convention the scale.

    Raises:
        ImageError: a file cannot be read.
        UsageError: the sizes differ, or less than 11 x 11 px are left inside the border.
    """
    rgb_a, rgb_b = (torch.from_numpy(to_rgb8(read_image(path))).movedim(-1, -3) for path in (a, b))
    y_a, y_b = luma(rgb_a), luma(rgb_b)
    similarity = ssim(y_a, y_b, border)  # first, as it needs the most pixels
    scores = psnr(y_a, y_b, border), similarity, rgb_psnr(rgb_a, rgb_b, border)
    return Comparison(*map(float, scores))


def _decibels(error: Tensor) -> Tensor:
    """PSNR of mean squared errors, in dB."""
    return 10 * torch.log10(255**2 / error)


def _interior(a: Tensor, b: Tensor, border: int, least: int) -> tuple[Tensor, Tensor]:
    """Both in float64 without the border."""
    height, width = a.shape[-2:]
    if a.shape != b.shape:
        raise UsageError(f"pictures to compare differ in shape: {tuple(a.shape)} and {tuple(b.shape)}")
    if border < 0 or min(height, width) - 2 * border < least:
        raise UsageError(
            f"{width} x {height} px with border {border}: at least {least} x {least} px must be left"
        )
    inside = (..., slice(border, height - border), slice(border, width - border))
    return a[inside].double(), b[inside].double()


def _blur(image: Tensor) -> Tensor:
    """Gaussian means (..., H - 10, W - 10), rows then columns."""
    offsets = torch.arange(_WINDOW, dtype=torch.float64, device=image.device) - _WINDOW // 2
    window = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    window = window / window.sum()
    planes = image.reshape(-1, 1, *image.shape[-2:])
    planes = F.conv2d(F.conv2d(planes, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1))
    return planes.reshape(*image.shape[:-2], *planes.shape[-2:])
