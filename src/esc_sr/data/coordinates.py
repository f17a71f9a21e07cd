"""Training samples for any scale: LR crops, points in them, and the colours of HR at these points (LTE)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from esc_sr.data.pairs import draw, turn
from esc_sr.data.tiles import Tile, require_sides
from esc_sr.network.arbitrary import pixel_centres
from esc_sr.resize import resize


class QuerySampler:
    """Random crops of pictures held in memory, each reduced by a scale of its own (Supp. 6.2)."""

    def __init__(self, tiles: Sequence[Tile], patch: int, scales: tuple[float, float], queries: int) -> None:
        """Take pictures to draw from.

        Args:
            tiles: at least one, none smaller than the largest scale times the patch.
            patch: side of the LR crop, px.
            scales: least and largest scale, drawn evenly between them.
            queries: points per crop, at most patch * patch.

        Raises:
            DataError: no pictures, or one that is too small.
        """
        require_sides(((tile.name, tile.pixels) for tile in tiles), round(patch * scales[1]))
        self.tiles = tiles
        self.patch = patch
        self.scales = scales
        self.queries = queries

    def sample(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw a batch; all randomness comes from `generator`, so that its state is the sampler's state.

        Returns:
            What `ESCLTE.query` takes and what it should give: lr (batch, 3, patch, patch) in -1..1, points
            (batch, queries, 2) and cells (batch, queries, 2) as (y, x) in the coordinates -1..1 of the crop,
            and colours (batch, queries, 3) in -1..1.
        """
        drawn = zip(*(self._crop(generator) for _ in range(batch)), strict=True)
        lr, coord, cell, colours = (torch.stack(part) for part in drawn)
        return lr, coord, cell, colours

    def _crop(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One crop: (3, patch, patch), (queries, 2), (queries, 2), (queries, 3)."""
        pixels = self.tiles[draw(len(self.tiles), generator)].pixels
        low, high = self.scales
        scale = low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))
        side = round(self.patch * scale)
        top, left = (draw(length - side + 1, generator) for length in pixels.shape[:2])
        hr = turn(pixels[top : top + side, left : left + side], draw(8, generator))
        lr = resize(np.ascontiguousarray(hr), (self.patch, self.patch))
        chosen = torch.randperm(side * side, generator=generator)[: self.queries]
        colours = torch.from_numpy(hr.reshape(-1, 3))[chosen]
        cell = torch.full((self.queries, 2), 2 / side)
        return (
            _signed(torch.from_numpy(lr).permute(2, 0, 1)),
            pixel_centres(side, side)[chosen].float(),
            cell,
            _signed(colours),
        )


def _signed(levels: Tensor) -> Tensor:
    """uint8 to float32 in -1..1."""
    return levels.to(torch.float32) / 127.5 - 1
