"""Benchmark sets: which files belong together, found from the folders they lie in."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from esc_sr.bicubic import downscale, enlarged
from esc_sr.data.pairs import Pair
from esc_sr.errors import DataError, ImageError
from esc_sr.image import FORMATS, picture_files, read_image, read_size, to_rgb8

T = TypeVar("T")

_LAYOUTS = (("HR", "LR_bicubic/X{s}"), ("X{s}/HR", "X{s}/LR"), ("GTmod12", "LRbicx{s}"))
"""Where HR and LR lie below the folder of a set; {s} is the scale."""

_HR_ALONE = ("HR", "GTmod12", "X2/HR", "X3/HR", "X4/HR", "original", "")
"""Where HR lies when the LR of a scale is not there; "" is the folder itself."""

_LR_NAMES = ("{stem}x{s}", "{stem}_x{s}", "{stem}")
"""What the LR file of `{stem}` is called."""


class Item(NamedTuple):
    """The files of one picture; without `lr` it is made from `hr`, without `hr` there is no ground truth."""

    name: str
    hr: Path | None
    lr: Path | None


class Sample(NamedTuple):
    """A decoded picture of a set.

    Attributes:
        name: of the picture.
        lr: (h, w, 3) RGB, 0..255; grey is repeated.
        hr: (H, W, 3), cropped to what `lr` is enlarged to; None without ground truth.
        grey: stored as grey, not as RGB.
        rounded: stored with more than 8 bits, in LR or HR, and rounded to them.
    """

    name: str
    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8] | None
    grey: bool
    rounded: bool


@dataclass(frozen=True)
class BenchmarkSet:
    """Pictures to measure on at one scale.

    Attributes:
        name: the name of its folder, for example Set5.
        scale: HR over LR side.
        source: how LR and HR were found, for the record.
        items: its pictures, sorted by name.
    """

    name: str
    scale: int
    source: str
    items: tuple[Item, ...]

    def load(self, item: Item) -> Sample:
        """Decode one picture; LR that is not there is made from HR, 8 bit, as benchmark files are.

        Raises:
            ImageError: A file cannot be read.
        """
        original = None if item.hr is None else read_image(item.hr)
        stored = original if item.lr is None else read_image(item.lr)
        assert stored is not None, "an item has at least one file"
        hr = None if original is None else to_rgb8(original)
        lr = to_rgb8(stored) if item.lr is not None else downscale(to_rgb8(stored), self.scale)
        if hr is not None:
            height, width = enlarged(lr.shape[:2], self.scale)
            hr = hr[:height, :width]
        files = [picture for picture in (original, stored) if picture is not None]
        return Sample(
            item.name,
            lr,
            hr,
            grey=files[0].pixels.shape[2] < 3,
            rounded=any(picture.pixels.dtype != np.uint8 for picture in files),
        )

    def pairs(self) -> Iterator[Pair]:
        """Decode all pictures that have a ground truth, one after the other."""
        for item in self.items:
            name, lr, hr, *_ = self.load(item)
            if hr is not None:
                yield Pair(name, lr, hr)


def find_set(folder: Path, scale: int) -> BenchmarkSet:
    """Recognise a set from its folders.

    HR and LR are looked for as `HR` + `LR_bicubic/X2`, `X2/HR` + `X2/LR`, `GTmod12` + `LRbicx2` and, for a
    folder called `NAME_HR`, itself + `NAME_LR_bicubic/X2` beside it; LR files are called as the HR file, with
    or without `x2` or `_x2`. Without LR of this scale it is made from `HR`, `GTmod12` or the folder's own
    pictures.

    Args:
        folder: of the set, for example Set5.
        scale: HR over LR side.

    Raises:
        DataError: no pictures are found; partners are missing or sizes do not fit, with a list of all.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    name = folder.parent.name if folder.name in ("HR", "GTmod12") else folder.name
    layouts = [(hr.format(s=scale), lr.format(s=scale)) for hr, lr in _LAYOUTS]
    places = [(folder / hr, folder / lr, lr) for hr, lr in layouts]
    if folder.name.endswith("_HR"):
        beside = f"{folder.name.removesuffix('_HR')}_LR_bicubic/X{scale}"
        places.append((folder, folder.parent / beside, beside))
    for hr, lr, source in places:
        if _pictures(hr) and _pictures(lr):
            return paired_set(hr, lr, scale, name, source)
    for inner in _HR_ALONE:
        files = _pictures(folder / inner)
        if files:
            items = tuple(Item(file.stem, file, None) for file in files)
            return _checked(BenchmarkSet(name, scale, f"made from {inner or folder.name}", items))
    raise DataError(
        f"{folder}: no pictures in it, nor in HR, GTmod12 or X{scale}/HR below it; formats are "
        f"{', '.join(FORMATS)}"
    )


def paired_set(
    hr: Path | None, lr: Path, scale: int, name: str | None = None, source: str | None = None
) -> BenchmarkSet:
    """Match the files of two folders, or take those of one without ground truth.

    Args:
        hr: folder of HR pictures; None where there are none.
        lr: folder of LR pictures.
        scale: HR over LR side.
        name: of the set, by default that of the folder.
        source: for the record, by default the LR folder's name.

    Raises:
        DataError: a folder holds no pictures; partners are missing or sizes do not fit, with a list of all.
    """
    name, source = name or (hr or lr).name, source or lr.name
    low = {file.stem: file for file in _some_pictures(lr)}
    if hr is None:
        items = tuple(Item(stem, None, file) for stem, file in low.items())
        return _checked(BenchmarkSet(name, scale, source, items))
    found, problems = [], []
    for file in _some_pictures(hr):
        partner = take_partner(low, file.stem, scale)
        if partner is None:
            problems.append(f"{file.name} has no partner in {lr}")
        found.append(Item(file.stem, file, partner))
    problems += [f"{file.name} has no partner in {hr}" for file in low.values()]
    if problems:
        raise DataError(f"{name} x{scale}: {'; '.join(problems)}")
    return _checked(BenchmarkSet(name, scale, source, tuple(found)))


def take_partner(low: dict[str, T], stem: str, scale: int) -> T | None:
    """Take the LR picture of an HR one out of those that are left, by its name without suffix."""
    names = (pattern.format(stem=stem, s=scale) for pattern in _LR_NAMES)
    return next((low.pop(wanted) for wanted in names if wanted in low), None)


def misfit(name: str, hr: tuple[int, int], lr: tuple[int, int], scale: int) -> str | None:
    """What is wrong with the sizes of a pair, px; HR may be larger than its LR by less than the scale."""
    wanted = enlarged(lr, scale)
    if all(0 <= side - least < scale for side, least in zip(hr, wanted, strict=True)):
        return None
    return (
        f"{name} is {hr[1]} x {hr[0]} px in HR and {lr[1]} x {lr[0]} in LR, "
        f"which x{scale} makes {wanted[1]} x {wanted[0]}"
    )


def _pictures(folder: Path) -> list[Path]:
    """The picture files of a folder, by name."""
    return list(picture_files(folder, deep=False))


def _some_pictures(folder: Path) -> list[Path]:
    """The picture files of a folder, at least one."""
    files = _pictures(folder)
    if not files:
        raise DataError(f"{folder}: no such folder, or no pictures in it")
    return files


def _checked(pictures: BenchmarkSet) -> BenchmarkSet:
    """The set, if all sizes fit."""
    problems = [problem for item in pictures.items if (problem := _misfit(item, pictures.scale))]
    if problems:
        raise DataError(f"{pictures.name} x{pictures.scale}: {'; '.join(problems)}")
    return pictures


def _misfit(item: Item, scale: int) -> str | None:
    """What is wrong with the files of a picture, if anything; only their headers are read."""
    try:
        hr = None if item.hr is None else read_size(item.hr)
        lr = None if item.lr is None else read_size(item.lr)
    except ImageError as error:
        return str(error)
    if hr is None:
        return None
    if lr is None:
        return None if min(hr) >= scale else f"{item.name} is {hr[1]} x {hr[0]} px, too small for x{scale}"
    return misfit(item.name, hr, lr, scale)
