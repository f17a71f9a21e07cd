"""Pictures kept for looking at: what each method made, and side by side where they differ most."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyvips
from numpy.typing import NDArray

from esc_sr.data.sets import Sample
from esc_sr.errors import ImageError
from esc_sr.evaluate.run import BICUBIC, Result
from esc_sr.evaluate.scores import Pixels, bicubic
from esc_sr.image import Picture, write_image

CROP = 96
"""Side of the cut-out, px; less in smaller pictures."""

_UNITS = {"psnr": "dB", "niqe": "NIQE"}
_ZOOM = 3
_GAP = 8
_LINE = 28


class Panel(NamedTuple):
    """A picture (H, W, 3) RGB, 0..255, and what is written above it."""

    label: str
    pixels: NDArray[np.uint8]


class Gallery:
    """The pictures of a set at a scale, in a folder of their own, and a sheet of all of them.

    Written are `FOLDER/SET_xSCALE/METHOD/PICTURE.png` and `FOLDER/SET_xSCALE/sheet.png`.
    """

    def __init__(self, folder: Path, set_name: str, scale: int) -> None:
        """Take the folder to write to, the set and its scale."""
        self.folder = folder / f"{set_name}_x{scale}"
        self.scale = scale
        self._strips: list[NDArray[np.uint8]] = []
        self._folders: dict[str, str] = {}

    def add(self, sample: Sample, results: Mapping[str, Result]) -> None:
        """Write what the methods, by name, made of a picture, and add it to the sheet.

        Raises:
            ImageError: The folder or a file cannot be written.
        """
        panels = [Panel(BICUBIC, bicubic(sample.lr, self.scale))] if BICUBIC not in results else []
        for name, (pixels, scores) in results.items():
            rounded = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
            self._write(rounded, Path(self._folder_of(name), f"{sample.name}.png"))
            words = [f"{value:.2f} {_UNITS[key]}" for key, value in scores.items() if key in _UNITS]
            panels.append(Panel(" ".join([name, *words]), rounded))
        if sample.hr is not None:
            panels.append(Panel("HR", sample.hr))
        self._strips.append(
            strip([panels[0]._replace(label=f"{sample.name}, {panels[0].label}"), *panels[1:]])
        )

    def _folder_of(self, method: str) -> str:
        """A name for a method's folder that no other method has."""
        if method not in self._folders:
            folder = re.sub(r"[^\w.-]", "_", method).lstrip(".")
            while folder in self._folders.values():
                folder += "_"
            self._folders[method] = folder
        return self._folders[method]

    def finish(self) -> None:
        """Write the sheet.

        Raises:
            ImageError: It cannot be written.
        """
        if self._strips:
            width = max(drawn.shape[1] for drawn in self._strips)
            padded = [
                np.pad(drawn, ((0, 0), (0, width - drawn.shape[1]), (0, 0)), constant_values=255)
                for drawn in self._strips
            ]
            self._write(np.concatenate(padded), Path("sheet.png"))

    def _write(self, pixels: NDArray[np.uint8], name: Path) -> None:
        target = self.folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(f"{target.parent}: cannot be made ({error.strerror})") from error
        write_image(Picture(pixels), target, overwrite=True)


def most_different(pictures: Sequence[Pixels], side: int = CROP) -> tuple[int, int]:
    """Find where pictures differ most among each other.

    Args:
        pictures: at least one, all (H, W, 3).
        side: of the window looked through, px.

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


def strip(panels: Sequence[Panel]) -> NDArray[np.uint8]:
    """Draw one row of a sheet: the same cut-out of every picture, enlarged, with its label above.

    Args:
        panels: pictures of one size.

    Returns:
        (H, W, 3) RGB, 0..255, as wide as for any other strip with so many panels.
    """
    top, left = most_different([panel.pixels for panel in panels])
    width = CROP * _ZOOM + _GAP
    canvas = np.full((_LINE + CROP * _ZOOM + _GAP, width * len(panels) + _GAP, 3), 255, np.uint8)
    for column, (label, pixels) in enumerate(panels):
        start = column * width + _GAP
        cut = pixels[top : top + CROP, left : left + CROP].repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)
        canvas[_LINE : _LINE + cut.shape[0], start : start + cut.shape[1]] = cut
        text = _text(label, width - _GAP)
        canvas[4 : 4 + text.shape[0], start : start + text.shape[1]] = text[:, :, None]
    return canvas


def _text(label: str, width: int) -> NDArray[np.uint8]:
    """Black letters on white, (H, W), no larger than the place for them."""
    escaped = label.replace("&", "&amp;").replace("<", "&lt;")
    image = pyvips.Image.text(f"<span>{escaped}</span>", dpi=96)
    letters: NDArray[np.uint8] = 255 - np.asarray(image.numpy(), dtype=np.uint8)
    return letters[: _LINE - 4, :width]
