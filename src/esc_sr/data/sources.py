"""What crops are taken of: pictures in memory as far as it reaches, the others in their files."""

import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esc_sr.bicubic import downscale, downscale_part, pillow_bicubic, reduced
from esc_sr.data.pictures import Entry, Progress, Source, first_few, for_each, no_progress, require_side
from esc_sr.data.sets import misfit, take_partner
from esc_sr.errors import DataError
from esc_sr.machine.memory import scratch_folder


@dataclass(frozen=True)
class Stored:
    """A picture in its file, of which each crop is decoded anew."""

    entry: Entry
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """Of its file."""
        return self.entry.name

    def read(self) -> NDArray[np.uint8]:
        """Decode all of it."""
        return self.entry.read()

    def crop(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """Decode what is needed for a part of it."""
        return self.entry.read_part(top, left, height, width)


@dataclass(frozen=True)
class Reduced:
    """The LR picture of another one, made of it as `downscale` does: of the whole, however small the crop."""

    source: Source
    scale: int

    @property
    def name(self) -> str:
        """Of the other picture."""
        return self.source.name

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px, of LR."""
        return reduced(self.source.size, self.scale)

    def read(self) -> NDArray[np.uint8]:
        """Make all of it."""
        return downscale(self.source.read(), self.scale)

    def crop(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """Make a part of it."""
        part = (top, left, height, width)
        return downscale_part(self.source.crop, self.source.size, self.scale, part)


class ReducedByCrop(Reduced):
    """The LR picture of another one, each part of which is made of that part alone, by Pillow's bicubic."""

    def read(self) -> NDArray[np.uint8]:
        """Make all of it."""
        return self.crop(0, 0, *self.size)

    def crop(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """Make a part of it."""
        part = self.source.crop(*(self.scale * number for number in (top, left, height, width)))
        return pillow_bicubic(part, (height, width))


class Block:
    """Memory that processes share: one that gets a block by pickle, on its start, sees the same bytes."""

    def __init__(self, size: int) -> None:
        """Take so many bytes, at least 1; they become real where they are written to."""
        if hasattr(os, "memfd_create"):
            self._file = os.memfd_create("esc-sr")
        else:
            with tempfile.TemporaryFile(dir=scratch_folder()) as file:
                self._file = os.dup(file.fileno())
        os.ftruncate(self._file, size)
        self.bytes = mmap.mmap(self._file, size)

    def __getstate__(self) -> dict[str, Any]:
        from multiprocessing.reduction import DupFd  # not on Windows

        return {"file": DupFd(self._file), "size": len(self.bytes)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._file = state["file"].detach()
        self.bytes = mmap.mmap(self._file, state["size"])

    def __del__(self) -> None:
        os.close(self._file)


@dataclass(frozen=True)
class Held:
    """A decoded picture in a block of memory, from some byte on."""

    name: str
    size: tuple[int, int]
    block: Block
    offset: int

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3), the memory itself."""
        return np.ndarray((*self.size, 3), np.uint8, self.block.bytes, self.offset)

    def read(self) -> NDArray[np.uint8]:
        """The whole picture, not copied."""
        return self.pixels

    def crop(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """A part of it, not copied."""
        return self.pixels[top : top + height, left : left + width]


class _Move(NamedTuple):
    """A picture, and where in memory it goes to."""

    name: str
    source: Source
    to: Held


def measure(entries: Sequence[Entry], min_side: int, progress: Progress = no_progress) -> list[Stored]:
    """Read the headers of pictures.

    Args:
        entries: where they lie.
        min_side: the least height and width, px.
        progress: called with (pictures done, pictures in all).

    Raises:
        DataError: some cannot be read or are too small; names the first few.
    """

    def look(entry: Entry) -> Stored:
        size = entry.read_size()
        require_side(size, min_side)
        return Stored(entry, size)

    return for_each(look, entries, progress)


def hold(sources: Sequence[Source], limit: int, progress: Progress = no_progress) -> list[Source]:
    """Take pictures into memory, from the first on, as long as they fit; the others stay where they are.

    Args:
        sources: in any order; results follow it.
        limit: bytes that the pixels may take.
        progress: called with (pictures done, pictures to take).

    Raises:
        DataError: some of those taken cannot be decoded; names the first few.
    """
    ends = np.cumsum([bytes_of(source) for source in sources]) if sources else np.zeros(0, int)
    count = int(np.searchsorted(ends, limit, side="right"))
    if not count:
        return list(sources)
    block = Block(int(ends[count - 1]))
    places = [0, *map(int, ends[: count - 1])]
    moves = [
        _Move(source.name, source, Held(source.name, source.size, block, place))
        for source, place in zip(sources, places, strict=False)
    ]

    def fill(move: _Move) -> Held:
        move.to.pixels[...] = move.source.read()
        return move.to

    return [*for_each(fill, moves, progress), *sources[count:]]


def bytes_of(source: Source) -> int:
    """Memory that the pixels of a picture take."""
    return 3 * math.prod(source.size)


def match(
    hr: Sequence[Entry], lr: Sequence[Entry], scale: int
) -> tuple[list[tuple[Entry, Entry]], list[str]]:
    """Find the LR picture of each HR picture by its name, which may have `x2` or `_x2` added.

    Returns:
        The pairs, and a line on each picture without a partner.
    """
    low = {_stem(entry): entry for entry in lr}
    partners = [(entry, take_partner(low, _stem(entry), scale)) for entry in hr]
    lonely = [f"{entry.name} has no LR" for entry, partner in partners if partner is None]
    lonely += [f"{entry.name} in LR has no HR" for entry in low.values()]
    return [(entry, partner) for entry, partner in partners if partner is not None], lonely


def measure_pairs(
    hr: Sequence[Entry], lr: Sequence[Entry], scale: int, min_side: int, progress: Progress = no_progress
) -> list[tuple[Stored, Stored]]:
    """Match HR with LR pictures, and read the headers of both.

    Args:
        hr: HR pictures; may be larger than `scale` times LR by less than the scale.
        lr: as many LR pictures, of the same names as `match` has it.
        scale: HR pixels per LR pixel along a side.
        min_side: the least height and width in LR, px.
        progress: called with (pictures done, pictures in all), for each side.

    Returns:
        Pairs (LR, HR).

    Raises:
        DataError: some cannot be read or are too small, have no partner, or do not fit theirs; names the
            first few.
    """
    pairs, faults = match(hr, lr, scale)
    if faults:
        raise DataError(f"{len(faults)} pictures without a partner at x{scale}: {first_few(faults)}")
    high = measure([entry for entry, _ in pairs], 1, progress)
    low = measure([entry for _, entry in pairs], min_side, progress)
    both = list(zip(low, high, strict=True))
    misfits = [misfit(h.name, h.size, lo.size, scale) for lo, h in both]
    if faults := [fault for fault in misfits if fault]:
        raise DataError(f"{len(faults)} of {len(both)} pairs do not fit: {first_few(faults)}")
    return both


def _stem(entry: Entry) -> str:
    """The name without its suffix."""
    return str(PurePath(entry.name).with_suffix(""))
