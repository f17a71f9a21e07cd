"""What JPEG does to pictures, in batches and on the device: 8 x 8 DCT, quantisation, halved colour."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# The tables of ITU-T T.81, annex K, which every common encoder scales by its quality.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)
_TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """Compress and decompress pictures as baseline JPEG with 4:2:0 chroma does; nothing is encoded.

    The tables, their scaling, the rounding and the smooth enlargement of chroma are those of libjpeg, so the
    result is that of a real file but for the rounding inside its integer transforms.

    Args:
        x: (B, 3, H, W) RGB, 0..1; rounded to 8 bits first.
        quality: (B,) from 1 to 100; need not be whole.

    Returns:
        (B, 3, H, W) float32, 0..1, in steps of 1/255.
    """
    height, width = x.shape[2:]
    rgb = (x.float() * 255).round().clamp(0, 255)
    ycc = _mix(rgb, _TO_YCC).round()  # chroma about 0
    ycc = F.pad(ycc, (0, -width % 16, 0, -height % 16), mode="replicate")
    luma = ycc[:, :1] - 128
    chroma = F.avg_pool2d(ycc[:, 1:], 2).round()
    quality = quality.to(rgb)
    luma = _quantise(luma, _LUMA, quality)[:, :, :height, :width]
    chroma = _quantise(chroma, _CHROMA, quality)[:, :, : (height + 1) // 2, : (width + 1) // 2]
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear")[:, :, :height, :width].round()
    rgb = _mix(torch.cat((luma + 128, chroma), 1), _TO_RGB)
    return rgb.round().clamp(0, 255) / 255


def _mix(x: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """Multiply the channels of (B, 3, H, W) by a 3 x 3 matrix."""
    return torch.einsum("dc,bchw->bdhw", x.new_tensor(matrix), x)


def _quantise(plane: Tensor, table: tuple[tuple[int, ...], ...], quality: Tensor) -> Tensor:
    """Round the DCT of every 8 x 8 block of (B, C, H, W), values -128..127, to the table at that quality."""
    b, c, h, w = plane.shape
    percent = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    steps = (plane.new_tensor(table) * percent[:, None, None] + 50).div(100).floor().clamp(1, 255)
    steps = steps[:, None, None, :, None]  # (B, 1, 1, 8, 1, 8)
    dct = _dct(plane)
    blocks = plane.view(b, c, h // 8, 8, w // 8, 8)
    coefficients = torch.einsum("ui,bcyixj,vj->bcyuxv", dct, blocks, dct)
    coefficients = (coefficients / steps).round() * steps
    blocks = torch.einsum("ui,bcyuxv,vj->bcyixj", dct, coefficients, dct)
    return blocks.reshape(b, c, h, w).round().clamp(-128, 127)


def _dct(like: Tensor) -> Tensor:
    """The orthonormal 8-point DCT-II as a matrix (frequency, place)."""
    places = torch.arange(8, device=like.device, dtype=like.dtype)
    dct = ((2 * places + 1) * places[:, None] * (math.pi / 16)).cos() / 2
    dct[0] /= math.sqrt(2)
    return dct
