"""Pictures as training and validation read them: folders and tar shards in, 8-bit RGB out."""

import os
import tarfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esc_sr.errors import DataError, ImageError
from esc_sr.image import FORMATS, Picture, decode_image


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
            ImageError: the bytes are no picture, or only a part of one.
            OSError: the file cannot be read.
        """
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return to_rgb8(decode_image(file.read(self.size), self.name))


@dataclass(frozen=True)
class Tile:
    """A decoded picture: (H, W, 3) RGB, 0..255, under the name of its file."""

    name: str
    pixels: NDArray[np.uint8]


def to_rgb8(picture: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, 0..255, of any picture: grey is repeated, alpha dropped, more bits rounded to 8."""
    pixels = picture.pixels
    channels = pixels.shape[2]
    rgb = pixels[:, :, :3] if channels >= 3 else pixels[:, :, :1].repeat(3, axis=2)
    if rgb.dtype == np.uint16:
        rgb = (rgb.astype(np.uint32) + 128) // 257
    elif rgb.dtype == np.float32:
        rgb = np.rint(rgb.clip(0, 1) * 255)
    return np.ascontiguousarray(rgb, dtype=np.uint8)


def require_sides(
    pictures: Iterable[tuple[str, NDArray[np.uint8]]],
    least: int,
    unit: str = "px",
    advice: str = "a smaller patch",
) -> None:
    """Refuse to train on no pictures, or on pictures that a crop does not fit into.

    Args:
        pictures: names and pixels (H, W, ...).
        least: height and width that each must have, in `unit`.
        unit: of `least`, for the message.
        advice: what to do other than using other pictures.

    Raises:
        DataError: there are none, or some are too small; names the first few.
    """
    sides = [(name, min(pixels.shape[:2])) for name, pixels in pictures]
    small = [name for name, side in sides if side < least]
    if not sides or small:
        what = f"{len(small)} smaller than {least} {unit}: {', '.join(small[:5])}" if small else "none"
        raise DataError(f"pictures to train on: {what}; use other pictures or {advice}")


def find_pictures(root: Path) -> list[Entry]:
    """List the pictures of a folder (with all its sub-folders) or of an uncompressed .tar shard, by name.

    Raises:
        DataError: `root` is missing, is neither of the two, or holds no picture.
    """
    if root.is_dir():
        files = sorted(path for path in root.rglob("*") if path.suffix.lower() in FORMATS and path.is_file())
        entries = [
            Entry(str(path.relative_to(root)), path.resolve(), 0, path.stat().st_size) for path in files
        ]
    elif root.is_file():
        entries = _tar_entries(root)
    else:
        raise DataError(f"{root}: no such folder or .tar file")
    if not entries:
        raise DataError(f"{root}: holds no picture ({', '.join(FORMATS)}); name .tar shards one by one")
    return entries


def _tar_entries(shard: Path) -> list[Entry]:
    """Pictures of a tar, each with the place of its bytes."""
    try:
        with tarfile.open(shard, "r:") as tar:
            return [
                Entry(member.name, shard.resolve(), member.offset_data, member.size)
                for member in tar
                if member.isreg() and Path(member.name).suffix.lower() in FORMATS
            ]
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{shard}: not a folder and not an uncompressed .tar file ({error})") from error


def load_tiles(
    entries: Sequence[Entry], min_side: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Tile]:
    """Decode pictures, several at a time.

    Args:
        entries: what to read, as `find_pictures` lists it.
        min_side: the least height and width, px.
        progress: called with (pictures done, pictures in all).

    Raises:
        DataError: some cannot be read or are too small; names the first few.
    """

    def load(entry: Entry) -> Tile | str:
        try:
            pixels = entry.read()
        except (ImageError, OSError) as error:
            return str(error) if entry.name in str(error) else f"{entry.name}: {error}"
        height, width = pixels.shape[:2]
        if min(height, width) < min_side:
            return f"{entry.name}: {width} x {height} px, at least {min_side} x {min_side} needed"
        return Tile(entry.name, pixels)

    tiles: list[Tile] = []
    faults: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, result in enumerate(pool.map(load, entries), start=1):
            if isinstance(result, Tile):
                tiles.append(result)
            else:
                faults.append(result)
            progress(done, len(entries))
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        names = "; ".join(faults[:5])
        raise DataError(
            f"{len(faults)} of {len(entries)} pictures cannot be used, remove them: {names}{more}"
        )
    return tiles
