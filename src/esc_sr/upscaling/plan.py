"""How a picture of some size is worked through within a budget of memory."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from esc_sr.errors import DeviceError
from esc_sr.families import Peer
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.lte import ESCLTE
from esc_sr.families.lte.network import QUERIES
from esc_sr.machine.memory import (
    SAFE_PART,
    file_map,
    free_disk,
    free_memory,
    scratch_folder,
    show_memory,
)
from esc_sr.network.rows import BAND_PIXELS, Bands
from esc_sr.upscaling.tiles import OVERLAP, PEER_ROWS, Tiling

GPU_PIXELS = 2**20
"""Pixels of a band on a GPU, which needs much work at a time."""

LARGEST_TILE = 16
"""Side of the largest tile in windows: what is more saves little of the overlap."""

PEER_TILES = 16
"""Sides of a peer's tiles are multiples of this many pixels, and at least one and a half overlaps."""

_PEER_BASE = 2**23  # bytes that the libraries take for a peer beside its maps: 7 MiB measured
_COPIES = 5  # of a band of the result that are made on its way into the picture

_FLOATS = 4  # bytes of a number in the picture and in LTE's decoder


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
    network: ESC | ESCLTE | Peer,
    work: Workload,
    device: torch.device,
    budget: int | None,
    disk: int | None = None,
) -> MemoryPlan:
    """Choose the highest bands with which a picture stays inside a budget, and where its maps lie.

    A peer takes it in one piece, or in the largest tiles that do.

    Args:
        network: What it goes through.
        work: The picture.
        device: Where the network computes.
        budget: Bytes; None is a safe part of what is free on the device.
        disk: Bytes that the maps may take in a file; None is what is free.

    Raises:
        DeviceError: Neither memory nor disk suffices, not even for tiles.
    """
    budget = int(SAFE_PART * free_memory(device)) if budget is None else budget
    if isinstance(network, Peer):
        return _plan_peer(network, work, device, budget)
    config = network.encoder.config if isinstance(network, ESCLTE) else network.config
    batch, _, height, width = work.shape
    fold, pixels = config.unshuffle, batch * height * width
    disk = free_disk() if disk is None else disk
    # need = maps + held + row * rows: of the whole picture two maps of dim channels and one of pdim, a number
    # for each fold^2 pixels (network/banded.py); what bands do not change; and what each row of a band takes
    maps = int((2 + config.pdim / config.dim) * config.dim * pixels * work.map_bytes) // fold**2
    held = _FLOATS * _input_copies(network, work.frame) * 3 * pixels + (
        work.held if device.type == "cpu" else 0
    )
    row = (
        _scratch(config) * work.map_bytes * batch * (max(width, height) if work.turned else width) // fold**2
    )
    held += _attention(config)
    decoder = 8 * _FLOATS * network.config.hidden * QUERIES if isinstance(network, ESCLTE) else 0
    usual = (BAND_PIXELS if device.type == "cpu" else GPU_PIXELS) * 64 * fold**2 // (config.dim * width)
    lowest = config.window * fold
    tall = min(max(usual // lowest, 1), -(-height // lowest)) * lowest
    for outside in (False, True):
        fixed = held + decoder + (0 if outside else maps)
        rows = min(tall, (budget - fixed) // row // lowest * lowest)
        if rows > 0 and maps * outside <= disk:
            need = fixed + row * rows
            in_file = maps * outside
            return MemoryPlan(height, width, rows, lowest, fold, need, budget, in_file, frame=work.frame)
    if isinstance(network, ESC):
        for tile in range(LARGEST_TILE * lowest, 2 * OVERLAP * lowest - 1, -lowest):
            need = held + _tile_need(config, work, tile)
            if need <= budget:
                return MemoryPlan(
                    height, width, lowest, lowest, fold, need, budget, 0, tile, False, work.frame
                )
    least, frame = held + decoder + row * lowest, 2 * work.frame
    raise DeviceError(
        f"{width - frame} x {height - frame} takes {show_memory(least + maps)}, or {show_memory(least)} and "
        f"a file of {show_memory(maps)}; allowed are {show_memory(budget)}, free in {scratch_folder()} are "
        f"{show_memory(disk)}; allow more memory, or set TMPDIR to a larger disk"
    )


def _plan_peer(network: Peer, work: Workload, device: torch.device, budget: int) -> MemoryPlan:
    """One piece or tiles. All numbers count as floats: of autocast's, not all are shorter."""
    batch, _, height, width = work.shape
    across = max(width, height) if work.turned else width
    colours = 3 * network.config.scale**2  # numbers of the result for each pixel of the picture
    held = _FLOATS * 3 * batch * height * width + (work.held if device.type == "cpu" else 0)
    held += _PEER_BASE + _FLOATS * _COPIES * colours * batch * PEER_ROWS * across

    def need(high: int, wide: int, result: int) -> int:
        return held + _FLOATS * batch * (network.alive * high * wide + colours * result)

    whole = need(height, width, 0)
    if whole <= budget:
        return MemoryPlan(height, width, height, height, 1, whole, budget)
    _, overlap, margin = Tiling.of_peer(network, 0)
    least = max(3 * overlap // 2, 2 * (overlap - margin))
    least = -(-least // PEER_TILES) * PEER_TILES
    largest = -(-max(height, width) // PEER_TILES) * PEER_TILES
    tiles = whole
    for side in range(largest, least - 1, -PEER_TILES):
        high, wide = (min(side, length) for length in (height, width))
        one_row = side >= (across if work.turned else height)
        tiles = need(high, wide, (high if one_row else 2 * high + overlap) * across)
        if tiles <= budget:
            return MemoryPlan(height, width, side, side, 1, tiles, budget, tile=side, exact=network.exact)
    raise DeviceError(
        f"{width} x {height} takes {show_memory(whole)}, or {show_memory(min(tiles, whole))} in the smallest "
        f"tiles; allowed are {show_memory(budget)}; allow more memory"
    )


def _scratch(config: ESCConfig) -> int:
    """Numbers per pixel of a band that are alive at once, at most: measured, rounded up."""
    hidden = int(config.dim * max(config.expansion, config.first_expansion))
    return max(18 * config.dim, 7 * hidden) + 6 * config.dim


def _attention(config: ESCConfig) -> int:
    """Bytes of the scores of a window, and of as many biases."""
    return 2 * _FLOATS * config.heads * config.window**4


def _tile_need(config: ESCConfig, work: Workload, tile: int) -> int:
    """Bytes alive for a tile of some pixels a side: its maps, a band of it, and the result.

    Of the result these are the tile, the row of tiles that it is in, the one before, and their overlap.
    """
    batch, _, height, width = work.shape
    maps = int((2 + config.pdim / config.dim) * config.dim) * tile**2
    band = _scratch(config) * tile * config.window * config.unshuffle
    across = max(width, height) if work.turned else width
    overlap = OVERLAP * config.window * config.unshuffle
    result = 3 * config.scale**2 * (tile**2 + (2 * tile + overlap) * across)
    return batch * ((maps + band) * work.map_bytes // config.unshuffle**2 + result * _FLOATS)


def _input_copies(network: ESC | ESCLTE, frame: int) -> int:
    """Pictures of the input's size in floats: itself, in its frame, and folded or brought to -1..1."""
    return 1 + (frame > 0) + (isinstance(network, ESCLTE) or network.config.unshuffle > 1)
