"""How a picture of some size is worked through within a budget of memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from esc_sr.errors import DeviceError
from esc_sr.families.contract import HANDED, Cost, Network
from esc_sr.machine.memory import (
    SAFE_PART,
    file_map,
    free_disk,
    free_memory,
    scratch_folder,
    show_memory,
)
from esc_sr.network.rows import Bands
from esc_sr.upscaling.tiles import Tiling

BAND_BYTES = 384 * 2**20
"""What a band takes on a CPU unless memory is short: 2^16 pixels of ESC."""

GPU_BAND_BYTES = 6 * 2**30
"""The same on a GPU, which needs much work at a time."""

_COPIES = 5  # of a part of the result that are made on its way into the picture

_FLOATS = 4  # bytes of a number in the picture


class Workload(NamedTuple):
    """A picture to enlarge.

    Attributes:
        shape: Of the network's input, (B, 3, H, W).
        held: Bytes of picture and result that lie in main memory as long as the network runs.
        map_bytes: Of a number in the maps: 4, or 2 in half precision.
        turned: Whether it is worked through lying on its side, too.
        frame: Pixels on each side of the shape that are not of the picture.
    """

    shape: torch.Size
    held: int
    map_bytes: int
    turned: bool = False
    frame: int = 0


@dataclass(frozen=True)
class MemoryPlan:
    """How one picture is worked through; plans that differ in their budgets alone are equal.

    Attributes:
        height: Of the picture in pixels.
        width: Likewise.
        rows: Of the picture in a band.
        lowest: Rows below which a band does not save memory.
        fold: Rows of the picture in one of the maps.
        need: Bytes that it takes.
        budget: Bytes that it may take.
        in_file: Bytes of maps in a temporary file; 0 if they lie in memory.
        tile: Side of a tile in pixels, where the picture is cut into tiles; else 0.
        exact: Whether the result is that of the picture in one piece.
        frame: Pixels on each side of height and width that are not of the picture.
    """

    height: int
    width: int
    rows: int
    lowest: int
    fold: int
    need: int
    budget: int = field(compare=False)
    in_file: int = 0
    tile: int = 0
    exact: bool = True
    frame: int = 0

    @property
    def sides(self) -> str:
        """Width and height of the picture alone."""
        return f"{self.width - 2 * self.frame} x {self.height - 2 * self.frame}"

    def bands(self, width: int, device: torch.device, done: Callable[[float], object]) -> Bands:
        """What the network has to know of it, for a picture of that width: lying down, bands are lower."""
        if self.tile:
            return Bands(self.rows // self.fold, device, done=done)
        rows = max(self.rows * self.width // (width * self.fold), 1)
        return Bands(rows, device, file_map, done=done) if self.in_file else Bands(rows, device, done=done)

    def halved(self) -> "MemoryPlan | None":
        """The plan with bands half as high, or None if that would not help."""
        return replace(self, rows=max(self.rows // 2, self.lowest)) if self.rows > self.lowest else None

    def __str__(self) -> str:
        count = -(-self.height // self.rows)
        how = "one piece" if count == 1 else f"{count} bands of {self.rows} rows"
        if self.tile:
            tiles = f"tiles of {self.tile} x {self.tile}"
            how = tiles if self.exact else f"blended {tiles}, approximately"
        amount = f"about {show_memory(self.need)} of {show_memory(self.budget)}"
        disk = f", {show_memory(self.in_file)} in {scratch_folder()}" if self.in_file else ""
        return f"{self.sides} in {how}, {amount}{disk}"


def plan_memory(
    network: Network,
    work: Workload,
    device: torch.device,
    budget: int | None,
    disk: int | None = None,
) -> MemoryPlan:
    """Choose the highest bands with which a picture stays inside a budget, and where its maps lie.

    A network without bands takes it in one piece. Where neither is possible, the largest tiles are chosen.

    Args:
        network: What it goes through; its cost is known.
        work: The picture.
        device: Where the network computes.
        budget: Bytes; None is a safe part of what is free on the device.
        disk: Bytes that the maps may take in a file; None is what is free.

    Raises:
        DeviceError: Neither memory nor disk suffices, not even for tiles.
    """
    budget = int(SAFE_PART * free_memory(device)) if budget is None else budget
    disk = free_disk() if disk is None else disk
    needs = _Needs(network, work, device)
    plans = _in_bands(needs) if network.has_bands else [needs.in_one_piece()]
    for plan in plans:
        if plan.need <= budget and plan.in_file <= disk:
            return replace(plan, budget=budget)
    tiles = None
    for tiles in _in_tiles(needs) if network.has_tiles else ():
        if tiles.need <= budget:
            return replace(tiles, budget=budget)
    raise DeviceError(_too_little(plans[-1], tiles, budget, disk))


class _Needs(NamedTuple):
    """What pictures take of memory, in bytes, and the plans that follow, whose budget is still open."""

    network: Network
    work: Workload
    device: torch.device

    @property
    def across(self) -> int:
        """Pixels in the longest row, also of the picture lying on its side."""
        _, _, height, width = self.work.shape
        return max(width, height) if self.work.turned else width

    def cost(self, height: int, width: int, rows: int) -> Cost:
        """Of a part of all pictures, without what the whole of them takes."""
        batch = self.work.shape[0]
        cost = self.network.cost(batch * height, width, batch * rows, self.work.map_bytes)
        assert cost is not None
        return cost

    @property
    def held(self) -> int:
        """What lies in memory however the pictures are cut."""
        batch, _, height, width = self.work.shape
        pictures = (1 + (self.work.frame > 0)) * _FLOATS * 3 * batch * height * width
        beside = self.work.held if self.device.type == "cpu" else 0
        return pictures + beside + self.cost(height, width, 0).held

    def result(self, rows: int) -> int:
        """What some rows of the pictures become, as tiles blend it."""
        scale = self.network.config.scale or 1
        return _FLOATS * self.network.blended * scale**2 * self.work.shape[0] * rows * self.across

    def in_bands(self, rows: int, in_file: bool) -> MemoryPlan:
        """Bands of some rows, with the maps in memory or in a file."""
        _, _, height, width = self.work.shape
        maps = self.cost(height, width, 0).maps
        need = self.held + self.cost(height, self.across, rows).band + maps * (not in_file)
        return self._plan(rows, self.network.multiple, need, in_file=maps * in_file)

    def in_one_piece(self) -> MemoryPlan:
        """The whole pictures at once; the result is handed over in parts."""
        _, _, height, width = self.work.shape
        need = self.held + self.cost(height, width, height).band + _COPIES * self.result(HANDED)
        return self._plan(height, height, need)

    def in_tiles(self, side: int) -> MemoryPlan:
        """Tiles of some side: a band of one, its maps, and two rows of tiles of the result."""
        network, (_, _, height, width) = self.network, self.work.shape
        high, wide = min(side, height), min(side, width)
        rows = network.multiple if network.has_bands else high
        tile = self.cost(high, wide, rows)
        one_row = side >= (self.across if self.work.turned else height)
        strip = high if one_row else 2 * high + Tiling.of(network, side).overlap
        need = self.held + tile.maps + tile.band + self.result(strip + _COPIES * HANDED)
        return replace(self._plan(rows, rows, need), tile=side, exact=network.exact)

    def _plan(self, rows: int, lowest: int, need: int, in_file: int = 0) -> MemoryPlan:
        """Rows in a band, and the least."""
        _, _, height, width = self.work.shape
        return MemoryPlan(
            height, width, rows, lowest, self.network.fold, need, 0, in_file, frame=self.work.frame
        )


def _in_bands(needs: _Needs) -> list[MemoryPlan]:
    """Ever lower bands with the maps in memory, then with the maps in a file."""
    height, width, lowest = *needs.work.shape[2:], needs.network.multiple
    usual = needs.network.cost(height, width, lowest)
    assert usual is not None
    most = BAND_BYTES if needs.device.type == "cpu" else GPU_BAND_BYTES
    tall = min(max(most // usual.band, 1), -(-height // lowest))
    heights = range(tall * lowest, 0, -lowest)
    return [needs.in_bands(rows, in_file) for in_file in (False, True) for rows in heights]


def _in_tiles(needs: _Needs) -> Iterator[MemoryPlan]:
    """Ever smaller tiles."""
    network, step = needs.network, needs.network.multiple
    _, overlap, margin = Tiling.of(network, 0)
    least = max(3 * overlap // 2, 2 * (overlap - margin))
    first = -(-max(needs.work.shape[2:]) // step) * step
    return (needs.in_tiles(side) for side in range(first, -(-least // step) * step - 1, -step))


def _too_little(least: MemoryPlan, tiles: MemoryPlan | None, budget: int, disk: int) -> str:
    """What to do where no plan stays inside the budget."""
    ways = [show_memory(least.need + least.in_file)]
    if least.in_file:
        ways.append(f"{show_memory(least.need)} and a file of {show_memory(least.in_file)}")
    if tiles and tiles.need < least.need + least.in_file:
        ways.append(f"{show_memory(tiles.need)} in the smallest tiles")
    free, advice = "", "allow more memory"
    if least.in_file:
        free = f", free in {scratch_folder()} are {show_memory(disk)}"
        advice += ", or set TMPDIR to a larger disk"
    return f"{least.sides} takes {', or '.join(ways)}; allowed are {show_memory(budget)}{free}; {advice}"
