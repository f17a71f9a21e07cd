"""Pictures as training and validation read them: from folders and tar shards, as 8-bit RGB."""

import mmap
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from esc_sr.errors import DataError, ImageError
from esc_sr.image import (
    FORMATS,
    decode_image,
    decode_region,
    decode_size,
    is_picture,
    picture_files,
    to_rgb8,
)

Progress = Callable[[int, int], None]


class Named(Protocol):
    """What has a name to be called by in errors."""

    @property
    def name(self) -> str:
        """The name."""


T = TypeVar("T", bound=Named)
S = TypeVar("S")
R = TypeVar("R")


class Fault(str):
    """What is wrong with a picture."""


def no_progress(done: int, total: int) -> None:
    """A `Progress` that nobody sees."""


@dataclass(frozen=True)
class Entry:
    """Where the bytes of one picture lie: a file, or a stretch of an uncompressed tar shard."""

    name: str
    path: Path
    offset: int
    size: int

    def read(self) -> NDArray[np.uint8]:
        """Decode the picture.

        Returns:
            (H, W, 3) RGB, 0..255.

        Raises:
            ImageError: the file cannot be read; the bytes are no picture, or only a part of one.
        """
        return to_rgb8(decode_image(bytes(self._map()), self.name))

    def read_size(self) -> tuple[int, int]:
        """Height and width, px, of which the header is read only; errors as in `read`."""
        return decode_size(self._map(), self.name)

    def read_part(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """Decode a part, (height, width, 3) RGB, as `decode_region` does; errors as in `read`."""
        return to_rgb8(decode_region(self._map(), self.name, top, left, height, width))

    def _map(self) -> memoryview:
        """The bytes, of which only those are read that are looked at."""
        try:
            with open(self.path, "rb") as file:
                whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise ImageError(f"cannot read {self.name}: the file is empty") from error
        except OSError as error:
            raise ImageError(f"cannot read {self.name}: {error.strerror}") from error
        return memoryview(whole)[self.offset : self.offset + self.size]


class Source(Protocol):
    """A picture that crops are taken of, wherever its pixels are: (H, W, 3) RGB, 0..255."""

    @property
    def name(self) -> str:
        """Of its file."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px."""

    def read(self) -> NDArray[np.uint8]:
        """The whole picture.

        Raises:
            ImageError: the file cannot be read, or is damaged.
        """

    def crop(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """A part of it, which lies inside; errors as in `read`."""


@dataclass(frozen=True)
class Decoded:
    """A decoded picture: (H, W, 3) RGB, 0..255, under the name of its file."""

    name: str
    pixels: NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def read(self) -> NDArray[np.uint8]:
        """The whole picture, not copied."""
        return self.pixels

    def crop(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """A part of it, not copied."""
        return self.pixels[top : top + height, left : left + width]


def find_pictures(root: Path) -> list[Entry]:
    """List the pictures of a folder (with all its sub-folders) or of an uncompressed .tar shard.

    Those of a folder are sorted by name, those of a shard in its order; hidden ones are left out everywhere.
    A shard in a folder is like a sub-folder of its name.

    Raises:
        DataError: `root` is missing, is neither of the two, or holds no picture; or a shard cannot be read.
    """
    if root.is_dir():
        others: list[Path] = []
        files = [*picture_files(root, other=others.append), *filter(_is_shard, others)]
        entries = [entry for file in sorted(files) for entry in _entries_in(root, file)]
    elif root.is_file():
        entries = _tar_entries(root)
    else:
        raise DataError(f"{root}: no such folder or .tar file")
    if not entries:
        raise DataError(f"{root}: holds no picture ({', '.join(FORMATS)}), also in no .tar shard")
    return entries


def _is_shard(path: Path) -> bool:
    return path.suffix.lower() == ".tar" and path.is_file()


def _entries_in(root: Path, file: Path) -> list[Entry]:
    """The picture that a file in a folder is, or those of a shard."""
    name = str(file.relative_to(root))
    if _is_shard(file):
        return [replace(entry, name=str(PurePath(name, entry.name))) for entry in _tar_entries(file)]
    return [Entry(name, file.resolve(), 0, file.stat().st_size)]


def _tar_entries(shard: Path) -> list[Entry]:
    """Pictures of a tar, each with the place of its bytes."""
    try:
        with tarfile.open(shard, "r:") as tar:
            return [
                Entry(member.name, shard.resolve(), member.offset_data, member.size)
                for member in tar
                if member.isreg() and is_picture(PurePath(member.name))
            ]
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{shard}: not a folder and not an uncompressed .tar file ({error})") from error


def load_pictures(entries: Sequence[Entry], min_side: int, progress: Progress = no_progress) -> list[Decoded]:
    """Decode pictures, several at a time.

    Args:
        entries: what to read, as `find_pictures` lists it.
        min_side: the least height and width, px.
        progress: called with (pictures done, pictures in all).

    Raises:
        DataError: some cannot be read or are too small; names the first few.
    """

    def load(entry: Entry) -> Decoded:
        pixels = entry.read()
        require_side(pixels.shape[:2], min_side)
        return Decoded(entry.name, pixels)

    return for_each(load, entries, progress)


def for_each(work: Callable[[T], R], pictures: Sequence[T], progress: Progress = no_progress) -> list[R]:
    """Do something with each of many pictures, several at a time.

    Args:
        work: may raise ImageError and DataError.
        pictures: each has a name.
        progress: called with (pictures done, pictures in all).

    Raises:
        DataError: some failed; names the first few.
    """

    def try_it(picture: T) -> R | Fault:
        try:
            return work(picture)
        except (ImageError, DataError) as error:
            return Fault(str(error) if picture.name in str(error) else f"{picture.name}: {error}")

    results: list[R] = []
    faults: list[Fault] = []
    for done, result in enumerate(in_threads(try_it, pictures), start=1):
        if isinstance(result, Fault):
            faults.append(result)
        else:
            results.append(result)
        progress(done, len(pictures))
    if faults:
        raise DataError(
            f"{len(faults)} of {len(pictures)} pictures cannot be used, remove them: {first_few(faults)}"
        )
    return results


def in_threads(work: Callable[[S], R], items: Sequence[S]) -> Iterator[R]:
    """Results in the order of the items; what has not begun when the loop is left, is not done."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)


def require_side(size: tuple[int, ...], least: int) -> None:
    """Refuse a picture of some height and width, px, whose shorter side is below the least."""
    if min(size) < least:
        raise DataError(f"{size[1]} x {size[0]} px, at least {least} x {least} needed")


def first_few(faults: Sequence[str]) -> str:
    """The first five of many faults, and how many more there are."""
    more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
    return "; ".join(faults[:5]) + more
