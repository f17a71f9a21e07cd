"""Pictures of floats through a network that knows 0..1 only."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def enlarge_floats(pixels: np.ndarray, enlarge: Callable[[Tensor], Tensor], luma: Tensor) -> np.ndarray:
    """Enlarge float values of any size, none of them clipped.

    What is outside 0..1 widens the range that is mapped onto the network's 0..1, and back. Within 0..1, where
    pictures are as a rule, the values go through as they are.

    Args:
        pixels: (H, W, 3) RGB or (H, W, 1) grey float32, finite.
        enlarge: (3, H, W) in 0..1 to (3, scale H, scale W) in 0..1.
        luma: (3,), how the three channels become grey again.

    Returns:
        (scale H, scale W, 3 or 1) float32.
    """
    low, high = min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))
    lr = torch.from_numpy(np.moveaxis(pixels, 2, 0).copy()).sub_(low).div_(high - low)
    sr = enlarge(lr.expand(3, -1, -1))
    if pixels.shape[2] == 1:
        sr = torch.tensordot(luma, sr, dims=1)[None]
    values: np.ndarray = sr.mul_(high - low).add_(low).permute(1, 2, 0).numpy()
    return values
