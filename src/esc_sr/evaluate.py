"""Scores of a network on pairs of pictures, with the paper's protocol (Sec. 4.2)."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from esc_sr.data.pairs import Pair
from esc_sr.data.tiles import to_rgb8
from esc_sr.errors import DataError
from esc_sr.image import FORMATS, read_image
from esc_sr.metrics import luma, psnr, ssim
from esc_sr.resize import downscale

_PAD = 32
"""The whole picture is reflected out to a multiple of this many px, whatever the network's window."""


class Scores(NamedTuple):
    """Means over pictures: PSNR in dB, SSIM, and how many pictures."""

    psnr: float
    ssim: float
    pictures: int


def predict(model: nn.Module, lr: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Upscale a picture as the paper measures it: reflected out to a multiple of 32, cropped, rounded.

    Args:
        model: (1, 3, H, W) in 0..1 -> (1, 3, scale*H, scale*W); runs where its parameters are.
        lr: (H, W, 3) RGB, 0..255.
        scale: the model's scale.

    Returns:
        (scale*H, scale*W, 3) RGB, 0..255.
    """
    height, width = lr.shape[:2]
    padded = np.pad(lr, ((0, -height % _PAD), (0, -width % _PAD), (0, 0)), mode="reflect")
    device = next(model.parameters()).device
    batch = torch.from_numpy(padded).to(device).permute(2, 0, 1).unsqueeze(0).contiguous().float() / 255
    with torch.inference_mode():
        sr = model(batch)[0, :, : height * scale, : width * scale]
        rounded = (sr.clamp(0, 1) * 255).round().to(torch.uint8)
    pixels: NDArray[np.uint8] = rounded.permute(1, 2, 0).cpu().numpy()
    return pixels


def score(sr: NDArray[np.uint8], hr: NDArray[np.uint8], border: int) -> tuple[float, float]:
    """PSNR (dB) and SSIM on Y of a picture (H, W, 3) against another, `border` px cut off on each side."""
    return float(psnr(luma(sr), luma(hr), border)), float(ssim(luma(sr), luma(hr), border))


def evaluate(model: nn.Module, pairs: Iterable[Pair], scale: int) -> Scores:
    """Mean PSNR and SSIM on Y with a border of `scale` px cut off, over all pairs.

    Raises:
        DataError: there are no pairs.
    """
    rows = [score(predict(model, pair.lr, scale), pair.hr, scale) for pair in pairs]
    if not rows:
        raise DataError("nothing to evaluate: no pairs of pictures")
    mean_psnr, mean_ssim = np.mean(rows, axis=0)
    return Scores(float(mean_psnr), float(mean_ssim), len(rows))


def benchmark_pairs(root: Path, name: str, scale: int) -> Iterator[Pair]:
    """Pairs of a benchmark set in its usual layout; grey files are repeated to RGB.

    Args:
        root: the folder that holds `Set5/HR` and `Set5/LR_bicubic/X2`, `Set14/X2/HR` and `Set14/X2/LR`, or
            `BSD100/HR` (its LR is made here).
        name: Set5, Set14 or BSD100.
        scale: 2, 3 or 4.

    Raises:
        DataError: no such set, or its files are missing.
    """
    layouts = {
        "Set5": ("Set5/HR", f"Set5/LR_bicubic/X{scale}/{{stem}}x{scale}{{suffix}}"),
        "Set14": (f"Set14/X{scale}/HR", f"Set14/X{scale}/LR/{{stem}}{{suffix}}"),
        "BSD100": ("BSD100/HR", None),
    }
    if name not in layouts:
        raise DataError(f"no benchmark set {name!r}; there are {', '.join(layouts)}")
    folder, lr_pattern = layouts[name]
    files = sorted(path for path in (root / folder).glob("*") if path.suffix.lower() in FORMATS)
    if not files:
        raise DataError(f"{root / folder}: {name} is not there")
    for path in files:
        hr = to_rgb8(read_image(path))
        if lr_pattern is None:
            lr = downscale(hr, scale)
        else:
            lr = to_rgb8(read_image(root / lr_pattern.format(stem=path.stem, suffix=path.suffix)))
        yield Pair(path.stem, lr, hr[: lr.shape[0] * scale, : lr.shape[1] * scale])
