"""Sheets to look at: rows of pictures beside each other on white, cut out at one place, labels above."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyvips
from numpy.typing import NDArray

CROP = 96
"""Side of the cut-out, px; less in smaller pictures."""

_ZOOM = 3
_GAP = 8
_LINE = 28


class Panel(NamedTuple):
    """A picture (H, W, 3) RGB, 0..255, and what is written above it."""

    label: str
    pixels: NDArray[np.uint8]


def most_different(pictures: Sequence[NDArray[np.uint8]], side: int = CROP) -> tuple[int, int]:
    """Find where pictures differ most among each other.

    Args:
        pictures: At least one, all (H, W, 3).
        side: Of the window looked through, px.

    Returns:
        Top and left of the window of `side` px (or the whole side, where it is less) with the largest sum of
        standard deviations over the pictures.
    """
    spread = np.std([picture.astype(np.float32).mean(2) for picture in pictures], axis=0, dtype=np.float64)
    sums = np.pad(spread.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    down, across = (min(side, length) for length in spread.shape)
    windows = sums[down:, across:] - sums[:-down, across:] - sums[down:, :-across] + sums[:-down, :-across]
    top, left = np.unravel_index(windows.argmax(), windows.shape)
    return int(top), int(left)


def strip(panels: Sequence[Panel], side: int = CROP, zoom: int = _ZOOM) -> NDArray[np.uint8]:
    """Draw one row of a sheet: the same cut-out of every picture, where they differ most, enlarged.

    Args:
        panels: Pictures of one size.
        side: Of the cut-out, px; less in smaller pictures.
        zoom: How many times it is enlarged.

    Returns:
        (H, W, 3) RGB, 0..255, as large as any other strip with so many panels.
    """
    top, left = most_different([panel.pixels for panel in panels], side)
    width = side * zoom + _GAP
    canvas = np.full((_LINE + side * zoom + _GAP, width * len(panels) + _GAP, 3), 255, np.uint8)
    for column, (label, pixels) in enumerate(panels):
        start = column * width + _GAP
        cut = repeated(pixels[top : top + side, left : left + side], zoom)
        canvas[_LINE : _LINE + cut.shape[0], start : start + cut.shape[1]] = cut
        text = _text(label, width - _GAP)
        canvas[4 : 4 + text.shape[0], start : start + text.shape[1]] = text[:, :, None]
    return canvas


def stacked(strips: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """A sheet of at least one strip, one below the other; white where one is narrower."""
    width = max(drawn.shape[1] for drawn in strips)
    return np.concatenate(
        [
            np.pad(drawn, ((0, 0), (0, width - drawn.shape[1]), (0, 0)), constant_values=255)
            for drawn in strips
        ]
    )


def repeated(pixels: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """Enlarge (H, W, C) by nearest neighbour."""
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def _text(label: str, width: int) -> NDArray[np.uint8]:
    """Black letters on white, (H, W), no larger than the place for them."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in label)
    escaped = printable.replace("&", "&amp;").replace("<", "&lt;")
    image = pyvips.Image.text(f"<span>{escaped}</span>", dpi=96)
    letters: NDArray[np.uint8] = 255 - np.asarray(image.numpy(), dtype=np.uint8)
    return letters[: _LINE - 4, :width]
