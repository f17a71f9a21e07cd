"""Sub-images: large training pictures cut into overlapping tiles, which are faster to read crops from."""

import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esc_sr.data.pictures import Entry, Progress, find_pictures, in_threads, no_progress
from esc_sr.errors import ImageError, UsageError
from esc_sr.image import Picture, write_image
from esc_sr.machine.claim import whole_file


class Extracted(NamedTuple):
    """How many tiles were written, and a line for each picture that none were made of."""

    tiles: int
    faults: list[str]


def extract(
    inputs: Sequence[Path],
    out: Path,
    *,
    side: int = 480,
    step: int = 240,
    multiscale: bool = False,
    skip_existing: bool = False,
    progress: Progress = no_progress,
) -> Extracted:
    """Cut pictures into tiles, PNG of 8-bit RGB, called after picture and number: a/b.jpg gives a/b_001.png.

    With `multiscale` the tiles of the picture in each of `reduced_sizes` follow.

    The last row and column of tiles end at the picture's edge. A picture that is smaller than a tile along
    a side keeps that side: nothing is lost, and nothing enlarged. Of several inputs, the tiles of each lie
    in a folder of its name.

    Args:
        inputs: folders and .tar shards.
        out: a folder that is missing or empty, or a .tar shard that is missing; a shard appears when it is
            whole.
        side: of a tile, px.
        step: from one tile to the next, px.
        multiscale: cut tiles of reduced pictures too.
        skip_existing: go on in a folder of tiles: pictures whose tiles are all there are left out.
        progress: called with (pictures done, pictures in all).

    Raises:
        UsageError: `out` holds something, or is a shard or not apart from the inputs with `skip_existing`, or
            cannot be made; side or step is below 1; inputs or pictures have the same name.
        DataError: an input is missing, or holds no picture.
        ImageError: a tile cannot be written.
    """
    if min(side, step) < 1:
        raise UsageError(f"--side {side} --step {step}: both must be at least 1")
    if skip_existing:
        _keep_apart(inputs, out)
    stems = _stems(inputs)
    with _destination(out, skip_existing) as (folder, keep):

        def cut(entry: Entry) -> list[Path] | str:
            try:
                own = entry.read_size()
                sizes = [own, *(reduced_sizes(*own) if multiscale else ())]
                places = [(size, *corner) for size in sizes for corner in corners_of(size, side, step)]
                paths = [folder / f"{stems[entry]}_{number:03}.png" for number in range(1, len(places) + 1)]
                if skip_existing and all(path.exists() for path in paths):
                    return []
                whole = entry.read()
                pixels = {size: _reduced(whole, size) for size in sizes}
            except ImageError as error:
                return str(error)
            paths[0].parent.mkdir(parents=True, exist_ok=True)
            for path, (size, top, left) in zip(paths, places, strict=True):
                tile = pixels[size][top : top + side, left : left + side]
                write_image(Picture(tile), path, overwrite=skip_existing)
            return paths

        count, faults = 0, []
        for done, made in enumerate(in_threads(cut, list(stems)), start=1):
            if isinstance(made, str):
                faults.append(made)
            else:
                keep(made)
                count += len(made)
            progress(done, len(stems))
    return Extracted(count, faults)


def reduced_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Further sizes of HR for ESC-Real, as for Real-ESRGAN: 0.75, 0.5, 1/3, and a shortest side of 400.

    Deviation: none is larger than the picture.
    """
    shortest = min(height, width)
    sizes = [(int(height * part), int(width * part)) for part in (0.75, 0.5, 1 / 3)]
    if shortest > 400:
        sizes.append((400 * height // shortest, 400 * width // shortest))
    return [size for size in dict.fromkeys(sizes) if min(size) > 0]


def _reduced(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) in another size, by Pillow's Lanczos."""
    if pixels.shape[:2] == size:
        return pixels
    from PIL import Image

    width_first = size[::-1]
    return np.asarray(Image.fromarray(pixels).resize(width_first, Image.Resampling.LANCZOS))


def corners_of(size: tuple[int, int], side: int, step: int) -> Iterator[tuple[int, int]]:
    """Upper left corners of the tiles of a picture of a height and width."""
    return product(corners_along(size[0], side, step), corners_along(size[1], side, step))


def corners_along(length: int, side: int, step: int) -> list[int]:
    """Where tiles begin along a side of a picture; the last is flush with its end."""
    last = max(length - side, 0)
    return [*range(0, last, step), last]


def _keep_apart(inputs: Sequence[Path], out: Path) -> None:
    """Refuse a folder that holds inputs or lies in one: tiles would be cut again, or replace a picture."""
    there = out.resolve()
    for root in inputs:
        place = root.resolve()
        if there.is_relative_to(place) or place.is_relative_to(there):
            raise UsageError(f"{out}: is not apart from {root}; --skip-existing needs a folder of tiles only")


def _stems(inputs: Sequence[Path]) -> dict[Entry, str]:
    """What the tiles of each picture are called, without number and suffix."""
    stems: dict[Entry, str] = {}
    owners: dict[str, str] = {}
    for root in inputs:
        folder = PurePath(root.resolve().stem if len(inputs) > 1 else "")
        for entry in find_pictures(root):
            stem = str(folder / PurePath(entry.name).with_suffix(""))
            name = str(root / entry.name)
            if stem in owners:
                raise UsageError(f"{owners[stem]} and {name} would both become {stem}_001.png; rename one")
            owners[stem], stems[entry] = name, stem
    return stems


@contextmanager
def _destination(out: Path, go_on: bool) -> Iterator[tuple[Path, Callable[[list[Path]], None]]]:
    """Where tiles are written to, and what is done with them then; a folder may hold some to go on from."""
    if go_on and out.suffix == ".tar":
        raise UsageError(f"{out}: a shard appears when it is whole; --skip-existing needs a folder")
    free = out.is_dir() and (go_on or not any(out.iterdir()))
    if out.exists() and not free:
        raise UsageError(f"{out}: exists already; name a new folder or .tar shard, or remove it")
    try:
        if out.suffix != ".tar":
            out.mkdir(parents=True, exist_ok=True)
            yield out, lambda paths: None
            return
        with (
            whole_file(out) as file,
            tempfile.TemporaryDirectory(dir=out.parent) as folder,
            tarfile.open(fileobj=file, mode="w") as tar,
        ):
            yield Path(folder), lambda paths: _move(paths, Path(folder), tar)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror}); name another place") from error


def _move(paths: Sequence[Path], folder: Path, tar: tarfile.TarFile) -> None:
    """Put files into a shard that does not tell when and by whom it was made."""
    for path in paths:
        info = tarfile.TarInfo(path.relative_to(folder).as_posix())
        info.size = path.stat().st_size
        with open(path, "rb") as file:
            tar.addfile(info, file)
        path.unlink()
