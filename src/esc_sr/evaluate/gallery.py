"""Pictures kept for looking at: what each method made, and side by side where they differ most."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esc_sr.data.sets import Sample
from esc_sr.errors import ImageError
from esc_sr.evaluate.run import BICUBIC, Result
from esc_sr.evaluate.scores import bicubic
from esc_sr.image import Picture, write_image
from esc_sr.image.sheet import Panel, stacked, strip

_UNITS = {"psnr": "dB", "niqe": "NIQE"}


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
            self._write(stacked(self._strips), Path("sheet.png"))

    def _write(self, pixels: NDArray[np.uint8], name: Path) -> None:
        """Write a picture of the folder."""
        target = self.folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(f"{target.parent}: cannot be made ({error.strerror})") from error
        write_image(Picture(pixels), target, overwrite=True)
