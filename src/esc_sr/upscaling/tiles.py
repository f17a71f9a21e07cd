"""A picture in blended tiles, for what fits neither into memory nor onto the disk."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from esc_sr.bicubic import resize
from esc_sr.families import Peer
from esc_sr.families.esc import ESC
from esc_sr.network.rows import Bands, join

OVERLAP = 2
"""Windows that two tiles of ESC have in common: each reaches one beyond the middle of the blend."""

BLEND = 16
"""Pixels over which tiles of a peer that are not exact are blended; more are shared, the network's reach."""

PEER_ROWS = 16
"""Rows of the picture in one of the bands in which the result of a peer is handed over."""


class Tiling(NamedTuple):
    """How a picture is cut up.

    Attributes:
        side: Of a tile in pixels, at least twice the overlap less one margin.
        overlap: Pixels that two tiles have in common.
        margin: Of these, at each end, those that count for nothing: there, a tile sees too little around it.
    """

    side: int
    overlap: int
    margin: int = 0

    @classmethod
    def of_peer(cls, network: Peer, side: int) -> "Tiling":
        """Tiles whose every pixel that counts has the network's reach around it."""
        return cls(side, 2 * network.reach + (2 if network.exact else BLEND), network.reach)


def tiled(network: ESC, lr: Tensor, side: int, bands: Bands) -> Iterator[tuple[int, Tensor]]:
    """Enlarge pictures tile by tile, approximately.

    Tiles begin at whole windows, so that attention sees the windows of the whole picture. What ConvAttn has
    from the means of the whole picture, it gets from the picture reduced to the size of a tile (Eq. 4, DK).

    Args:
        network: The network.
        lr: (B, 3, H, W), RGB in 0..1, where the network is.
        side: Of a tile in pixels, a multiple of the window and at least twice the overlap.
        bands: How a tile is worked through.

    Yields:
        The first row of a band of the result, and the band (B, 3, h, scale W), float32, from top to bottom.
    """
    config = network.config
    height, width = lr.shape[2:]
    bands = replace(bands, kernels={})
    small = resize(lr, _reduced(height, width, side))
    for _ in network.bands(small, bands):  # fills in the kernels
        pass
    tiling = Tiling(side, OVERLAP * config.window * config.unshuffle)
    yield from _blended(
        lambda tile: join(network.bands(tile, bands), config.scale * tile.shape[2]),
        lr,
        config.scale,
        tiling,
        config.window,
    )


def in_pieces(
    network: Peer, lr: Tensor, side: int, done: Callable[[float], object]
) -> Iterator[tuple[int, Tensor]]:
    """Enlarge pictures at once or, as `Tiling.of_peer` says, tile by tile.

    Args:
        network: The network.
        lr: (B, 3, H, W), RGB in 0..1, where the network is.
        side: Of a tile in pixels; 0 for one piece.
        done: Is told what part of the pixels has gone through the network.

    Yields:
        The first row of a band of the result, and the band (B, 3, h, scale W), from top to bottom; the same
        as those of one piece, where the network's reach is exact.
    """
    scale = network.config.scale
    if not side:
        sr = network(lr)
        done(1)
        for first in range(0, sr.shape[2], scale * PEER_ROWS):
            yield first, sr[:, :, first : first + scale * PEER_ROWS].clone()  # who keeps it, keeps no more
        return
    tiling, finished = Tiling.of_peer(network, side), 0
    down, across = (_places(length, side, tiling.overlap) for length in lr.shape[2:])
    total = sum(bottom - top for top, bottom in down) * sum(right - left for left, right in across)

    def enlarge(tile: Tensor) -> Tensor:
        nonlocal finished
        sr: Tensor = network(tile)
        finished += tile.shape[2] * tile.shape[3]
        done(finished / total)
        return sr

    yield from _blended(enlarge, lr, scale, tiling, PEER_ROWS)


def _blended(
    enlarge: Callable[[Tensor], Tensor], lr: Tensor, scale: int, tiling: Tiling, rows: int
) -> Iterator[tuple[int, Tensor]]:
    """Put what becomes of tiles together, in bands of some rows of the picture."""
    height, width = lr.shape[2:]
    side, overlap, _ = tiling
    above = torch.zeros(())
    for top, bottom in _places(height, side, overlap):
        strip = torch.zeros(
            len(lr), 3, scale * (bottom - top), scale * width, dtype=torch.float32, device=lr.device
        )
        for left, right in _places(width, side, overlap):
            sr = enlarge(lr[:, :, top:bottom, left:right])
            across = _weights(left, right, width, tiling, scale, strip)
            strip[:, :, :, scale * left : scale * right].addcmul_(sr, across)
        strip *= _weights(top, bottom, height, tiling, scale, strip)[:, None]
        if top > 0:
            strip[:, :, : scale * overlap] += above
        done = strip.shape[2] if bottom == height else strip.shape[2] - scale * overlap
        above = strip[:, :, done:].clone()
        for first in range(0, done, scale * rows):  # whoever takes a band makes copies of it
            yield scale * top + first, strip[:, :, first : min(first + scale * rows, done)]


def map_rows(network: ESC, height: int, width: int, side: int) -> int:
    """Rows of the maps that `tiled` takes through each stage: of all tiles, and of the reduced picture."""
    fold = network.config.unshuffle
    overlap = OVERLAP * network.config.window * fold
    heights = [bottom - top for top, bottom in _places(height, side, overlap)]
    heights = [_reduced(height, width, side)[0], *heights * len(_places(width, side, overlap))]
    return sum(-(-rows // fold) for rows in heights)


def _reduced(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width of a picture, reduced to the size of a tile if it is larger."""
    shrink = min(side / max(height, width), 1)
    return max(round(height * shrink), 1), max(round(width * shrink), 1)


def _places(length: int, side: int, overlap: int) -> list[tuple[int, int]]:
    """Where the tiles begin and end along an axis of some pixels."""
    starts = range(0, max(length - overlap, 1), side - overlap)
    return [(start, min(start + side, length)) for start in starts]


def _weights(start: int, stop: int, length: int, tiling: Tiling, scale: int, like: Tensor) -> Tensor:
    """Weights of a tile along an axis of the result: linear where there is a neighbour, together 1."""
    _, overlap, margin = tiling
    weights = like.new_ones(scale * (stop - start))
    slope = torch.arange(scale * overlap, device=like.device) + 0.5 - scale * margin
    slope = (slope / (scale * (overlap - 2 * margin))).clamp(0, 1)
    if start > 0:
        weights[: scale * overlap] *= slope
    if stop < length:
        weights[-scale * overlap :] *= slope.flip(0)
    return weights
