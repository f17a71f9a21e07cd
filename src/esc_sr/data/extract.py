"""Sub-images: large training pictures cut into overlapping tiles, which are faster to read crops from."""

import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path, PurePath
from typing import NamedTuple

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
    skip_existing: bool = False,
    progress: Progress = no_progress,
) -> Extracted:
    """Cut pictures into tiles, PNG of 8-bit RGB, called after picture and number: a/b.jpg gives a/b_001.png.

    The last row and column of tiles end at the picture's edge. A picture that is smaller than a tile along
    a side keeps that side: nothing is lost, and nothing enlarged. Of several inputs, the tiles of each lie
    in a folder of its name.

    Args:
        inputs: folders and .tar shards.
        out: a folder that is missing or empty, or a .tar shard that is missing; a shard appears when it is
            whole.
        side: of a tile, px.
        step: from one tile to the next, px.
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
                height, width = entry.read_size()
                corners = list(product(corners_along(height, side, step), corners_along(width, side, step)))
                paths = [folder / f"{stems[entry]}_{number:03}.png" for number in range(1, len(corners) + 1)]
                if skip_existing and all(path.exists() for path in paths):
                    return []
                pixels = entry.read()
            except ImageError as error:
                return str(error)
            paths[0].parent.mkdir(parents=True, exist_ok=True)
            for path, (top, left) in zip(paths, corners, strict=True):
                write_image(
                    Picture(pixels[top : top + side, left : left + side]), path, overwrite=skip_existing
                )
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
