"""A frame of mirrored pixels around a picture, so that a network's zero padding does not reach into it."""

from collections.abc import Callable

import torch
from torch import Tensor

FRAME = 4
"""Pixels around a picture. What zero padding does to flat colours is gone after 3 or 4 pixels."""


def framed(x: Tensor, border: int = FRAME) -> Tensor:
    """Extend a picture on each side by its mirror image, the edge pixel included, as often as needed.

    Args:
        x: (B, C, H, W), any side from 1.
        border: Pixels on each side.

    Returns:
        (B, C, H + 2 border, W + 2 border).
    """
    for axis in (2, 3):
        side = x.shape[axis]
        steps = torch.arange(-border, side + border, device=x.device) % (2 * side)
        x = x.index_select(axis, torch.minimum(steps, 2 * side - 1 - steps))
    return x


def unframed(
    write: Callable[[int, Tensor], None], size: tuple[int, int], border: int
) -> Callable[[int, Tensor], None]:
    """Take bands of an enlarged framed picture, and give what lies inside the frame to `write`.

    Args:
        write: Takes the first row of a band and the band (B, C, h, width).
        size: Height and width inside the frame, enlarged.
        border: Pixels of the frame on each side, enlarged.
    """
    height, width = size

    def cut(top: int, band: Tensor) -> None:
        first, last = max(border - top, 0), min(border + height - top, band.shape[2])
        if first < last:
            write(top + first - border, band[:, :, first:last, border : border + width])

    return cut
