"""A picture in blended tiles: approximate, for what fits neither into memory nor onto the disk."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from esc_sr.network import ESC
from esc_sr.network.rows import Bands, join
from esc_sr.resize import resize

OVERLAP = 2
"""Windows that two tiles have in common: each reaches one beyond the middle of the blend."""


def tiled(network: ESC, lr: Tensor, side: int, bands: Bands) -> Iterator[tuple[int, Tensor]]:
    """Enlarge pictures tile by tile.

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
    scale, overlap = config.scale, OVERLAP * config.window * config.unshuffle
    bands = replace(bands, kernels={})
    small = resize(lr, _reduced(height, width, side))
    for _ in network.bands(small, bands):  # fills in the kernels
        pass
    above = torch.zeros(())
    for top, bottom in _places(height, side, overlap):
        strip = torch.zeros(
            len(lr), 3, scale * (bottom - top), scale * width, dtype=torch.float32, device=lr.device
        )
        for left, right in _places(width, side, overlap):
            sr = join(network.bands(lr[:, :, top:bottom, left:right], bands), strip.shape[2])
            across = _weights(left, right, width, overlap, scale, strip)
            strip[:, :, :, scale * left : scale * right].addcmul_(sr, across)
        strip *= _weights(top, bottom, height, overlap, scale, strip)[:, None]
        if top > 0:
            strip[:, :, : scale * overlap] += above
        done = strip.shape[2] if bottom == height else strip.shape[2] - scale * overlap
        above = strip[:, :, done:].clone()
        for first in range(0, done, scale * config.window):  # whoever takes a band makes copies of it
            yield scale * top + first, strip[:, :, first : min(first + scale * config.window, done)]


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


def _weights(start: int, stop: int, length: int, overlap: int, scale: int, like: Tensor) -> Tensor:
    """Weights of a tile along an axis of the result: linear where there is a neighbour, together 1."""
    weights = like.new_ones(scale * (stop - start))
    slope = (torch.arange(scale * overlap, device=like.device) + 0.5) / (scale * overlap)
    if start > 0:
        weights[: scale * overlap] = slope
    if stop < length:
        weights[-scale * overlap :] = slope.flip(0)
    return weights
