"""A picture in overlapping tiles, for what does not fit into memory otherwise."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from esc_sr.bicubic import resize
from esc_sr.families.contract import HANDED, Network
from esc_sr.network.rows import Bands


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
    def of(cls, network: Network, side: int) -> "Tiling":
        """Tiles whose every pixel that counts has the network's reach around it."""
        return cls(side, 2 * network.reach + network.blend, network.reach)


def tiled(
    network: Network,
    lr: Tensor,
    side: int,
    bands: Bands,
    size: tuple[int, int] | None = None,
    frame: int = 0,
) -> Iterator[tuple[int, Tensor]]:
    """Enlarge pictures tile by tile; where the network's reach is not exact, approximately.

    Statistics of the whole picture that a network keeps are those of the picture reduced to a tile.

    Args:
        network: The network.
        lr: (B, 3, H, W), RGB in 0..1, where the network is.
        side: Of a tile in pixels, a multiple of the network's, and as `Tiling` says.
        bands: How a tile is worked through.
        size: Height and width of the result, if the network gives any.
        frame: As of `Network.bands`.

    Yields:
        The first row of a band of the result, and the band (B, 3, h, width), from top to bottom.
    """
    height, width = lr.shape[2:]
    if network.surveys:
        bands = replace(bands, kernels={})
        for _ in network.tile(resize(lr, _reduced(height, width, side)), bands):  # fills in the kernels
            pass
    found = _blended(network, lr, side, bands)
    if size is None:
        return found
    share, done = map_rows(network, height, width, side) / height, bands.done
    told = replace(bands, done=lambda rows: done(rows * share))
    return network.decode(lr, found, told, size, frame)


def _blended(network: Network, lr: Tensor, side: int, bands: Bands) -> Iterator[tuple[int, Tensor]]:
    """What `Network.tile` gives, of the whole pictures, float32."""
    height, width = lr.shape[2:]
    scale = network.config.scale or 1
    tiling = Tiling.of(network, side)
    overlap = tiling.overlap
    above = torch.zeros(())
    for top, bottom in _places(height, side, overlap):
        strip = torch.zeros(
            len(lr),
            network.blended,
            scale * (bottom - top),
            scale * width,
            dtype=torch.float32,
            device=lr.device,
        )
        for left, right in _places(width, side, overlap):
            column = strip[:, :, :, scale * left : scale * right]
            across = _weights(left, right, width, tiling, scale, strip)
            for first, sr in network.tile(lr[:, :, top:bottom, left:right], bands):
                column[:, :, first : first + sr.shape[2]].addcmul_(sr, across)
        strip *= _weights(top, bottom, height, tiling, scale, strip)[:, None]
        if top > 0:
            strip[:, :, : scale * overlap] += above
        done = strip.shape[2] if bottom == height else strip.shape[2] - scale * overlap
        above = strip[:, :, done:].clone()
        for first in range(0, done, scale * HANDED):  # whoever takes a band makes copies of it
            yield scale * top + first, strip[:, :, first : min(first + scale * HANDED, done)]


def map_rows(network: Network, height: int, width: int, side: int) -> int:
    """Rows of the maps that `tiled` takes through each stage: of all tiles, and of the reduced picture."""
    overlap = Tiling.of(network, side).overlap
    heights = [bottom - top for top, bottom in _places(height, side, overlap)]
    heights *= len(_places(width, side, overlap))
    if network.surveys:
        heights.append(_reduced(height, width, side)[0])
    return sum(-(-rows // network.fold) for rows in heights)


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
