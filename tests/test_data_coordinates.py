"""Samples for any scale: crops, points and colours that belong together."""

import numpy as np
import pytest
import torch

from esc_sr.data.coordinates import QuerySampler
from esc_sr.data.tiles import Tile
from esc_sr.errors import DataError
from esc_sr.resize import resize


def sampler(side: int = 40, patch: int = 8, scales: tuple[float, float] = (1.0, 4.0)) -> QuerySampler:
    rng = np.random.default_rng(0)
    tiles = [Tile(str(i), rng.integers(0, 256, (side, side + 3, 3), dtype=np.uint8)) for i in range(3)]
    return QuerySampler(tiles, patch, scales, queries=50)


def test_shapes_and_ranges() -> None:
    lr, coord, cell, colours = sampler().sample(4, torch.Generator().manual_seed(0))
    assert lr.shape == (4, 3, 8, 8) and colours.shape == (4, 50, 3)
    assert coord.shape == cell.shape == (4, 50, 2)
    for values in (lr, coord, colours):
        assert -1 <= values.min() and values.max() <= 1
    sides = 2 / cell[:, 0, 0]
    assert (8 <= sides).all() and (sides <= 32).all() and len(sides.unique()) > 1


def test_colours_are_those_of_the_picture_at_the_points() -> None:
    queries = sampler(patch=6, scales=(3.0, 3.0))
    tile = queries.tiles[0].pixels[:18, :18]
    queries.tiles = [Tile("only", np.ascontiguousarray(tile))]
    lr, coord, cell, colours = queries.sample(8, torch.Generator().manual_seed(1))
    assert torch.allclose(cell, torch.tensor(2 / 18))
    for one in range(8):
        at = ((coord[one] + 1) / 2 * 18 - 0.5).round().long()
        assert len(torch.unique(at, dim=0)) == 50  # no point twice
        views = [np.rot90(tile, turns)[:, ::flip] for turns in range(4) for flip in (1, -1)]
        fits = [
            np.array_equal(((colours[one] + 1) * 127.5).round().numpy(), view[at[:, 0], at[:, 1]])
            for view in views
        ]
        assert sum(fits) == 1
        expected = resize(np.ascontiguousarray(views[fits.index(True)]), (6, 6))
        np.testing.assert_array_equal(((lr[one] + 1) * 127.5).round().permute(1, 2, 0).numpy(), expected)


def test_the_generator_decides() -> None:
    a, b, c = (sampler().sample(3, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a[3], c[3])


def test_too_small_pictures_are_named() -> None:
    with pytest.raises(DataError, match="3 smaller than 64 px: 0, 1, 2"):
        sampler(patch=16)
    with pytest.raises(DataError, match="none"):
        QuerySampler([], 8, (1.0, 4.0), 10)
