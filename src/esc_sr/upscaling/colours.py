"""Colours and alpha of a picture through a network, apart from each other, in whatever levels they have."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from esc_sr.bicubic import resize
from esc_sr.image import Picture, fill_transparent, keep_flat
from esc_sr.upscaling import FractionDone
from esc_sr.upscaling.models import Way

_LUMA = (0.299, 0.587, 0.114)  # BT.601: how the three channels become grey again


def upscale_picture(picture: Picture, way: Way, progress: FractionDone) -> Picture:
    """Enlarge a picture; a constant alpha stays that constant, another one hides no colours.

    Raises:
        WeightsError: The network gives values that are not finite.
        DeviceError: Neither memory nor disk suffices.
    """
    pixels = picture.pixels
    channels = pixels.shape[2]
    colours = 3 if channels >= 3 else 1
    out = np.empty((*way.size, channels), pixels.dtype)
    held = pixels.nbytes + out.nbytes
    alpha, shown = pixels[:, :, colours:], out[:, :, colours:]
    varies = bool((alpha != alpha[0, 0]).any())
    seen = fill_transparent(pixels) if varies else pixels[:, :, :colours]
    colours_done = (lambda done: progress(done / 2)) if varies else progress
    _channels(seen, out[:, :, :colours], held, way, colours_done)
    if varies:
        _channels(alpha, shown, held, way, lambda done: progress((1 + done) / 2))
        shown[:] = keep_flat(alpha, shown)
    else:
        shown[:] = alpha[0, 0]
    return replace(picture, pixels=out)


def _channels(pixels: np.ndarray, out: np.ndarray, held: int, way: Way, progress: FractionDone) -> None:
    """Enlarge (H, W, 3) RGB or (H, W, 1) grey into `out`, of the same type; integers half to even.

    Grey goes through the network as three equal channels and comes back as their luma. Floats outside
    0..1 widen the range that is mapped onto the network's 0..1, and back: none is clipped.
    """
    low, high = _range(pixels)
    planes = np.moveaxis(pixels, 2, 0).astype(np.float32, order="C")  # (C, H, W)
    lr = torch.from_numpy(planes).to(way.runner.device).sub_(low).div_(high - low)
    whole = out.dtype != np.float32
    reduced = way.size != way.given
    given = np.empty((*way.given, len(planes)), out.dtype) if reduced else out

    def write(top: int, band: Tensor) -> None:
        sr = band[0]  # (3, h, W)
        if len(planes) == 1:
            sr = torch.tensordot(sr.new_tensor(_LUMA), sr, dims=1)[None]
        values = sr.mul(high - low).add_(low)
        levels = (values.round() if whole else values).permute(1, 2, 0).cpu().numpy()
        given[top : top + len(levels)] = levels

    way.runner.run(lr.expand(1, 3, -1, -1), way.given, held + given.nbytes * reduced, write, progress)
    if reduced and whole:
        out[:] = resize(given, way.size)
    elif reduced:
        smaller = resize(torch.from_numpy(given).permute(2, 0, 1), way.size).clamp_(low, high)
        out[:] = smaller.permute(1, 2, 0).numpy()


def _range(pixels: np.ndarray) -> tuple[float, float]:
    """What is black and white to the network: the type's full range, or 0..1 and whatever lies beyond."""
    if pixels.dtype != np.float32:
        return 0.0, float(np.iinfo(pixels.dtype).max)
    return min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))
