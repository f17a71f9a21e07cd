"""Samples for any scale: crops, points and colours that belong together."""

from functools import partial

import numpy as np
import torch
from PIL import Image

from esc_sr.bicubic import pillow_bicubic, resize
from esc_sr.data.coordinates import cut_queries
from esc_sr.data.crops import Batch, Crops, stack
from esc_sr.data.pictures import Decoded

BICUBIC = Image.Resampling.BICUBIC
PICTURES = [
    Decoded(str(i), np.random.default_rng(i).integers(0, 256, (40, 43, 3), dtype=np.uint8)) for i in range(3)
]


def take(
    count: int, pictures: list[Decoded] = PICTURES, patch: int = 8, scales: tuple[float, float] = (1.0, 4.0)
) -> Batch:
    cut = partial(cut_queries, patch=patch, scales=scales, queries=30)
    return stack(Crops(pictures, cut, seed=1), range(count))


def test_lr_by_pillow() -> None:
    pixels = PICTURES[0].pixels[:18, :18].copy()
    cut = partial(cut_queries, patch=6, scales=(3.0, 3.0), queries=324)
    generator = np.random.default_rng(0)
    lr, *_ = cut(Decoded("only", pixels), generator, reduce=pillow_bicubic)
    views = [np.rot90(pixels, turns)[:, ::flip] for turns in range(4) for flip in (1, -1)]
    wanted = [np.asarray(Image.fromarray(np.ascontiguousarray(v)).resize((6, 6), BICUBIC)) for v in views]
    found = ((lr + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert any(np.array_equal(found, one) for one in wanted)


def test_shapes_and_ranges() -> None:
    lr, coord, cell, colours = take(4)
    assert lr.shape == (4, 3, 8, 8) and colours.shape == (4, 30, 3)
    assert coord.shape == cell.shape == (4, 30, 2)
    assert {part.dtype for part in (lr, coord, cell, colours)} == {torch.float32}
    for values in (lr, coord, colours):
        assert -1 <= values.min() and values.max() <= 1
    sides = 2 / cell[:, 0, 0]
    assert (8 <= sides).all() and (sides <= 32).all() and len(sides.unique()) > 1


def test_colours_are_those_of_the_picture_at_the_points() -> None:
    picture = np.ascontiguousarray(PICTURES[0].pixels[:18, :18])
    lr, coord, cell, colours = take(8, [Decoded("only", picture)], patch=6, scales=(3.0, 3.0))
    assert torch.allclose(cell, torch.tensor(2 / 18))
    for one in range(8):
        at = ((coord[one] + 1) / 2 * 18 - 0.5).round().long()
        assert len(torch.unique(at, dim=0)) == 30  # no point twice
        views = [np.rot90(picture, turns)[:, ::flip] for turns in range(4) for flip in (1, -1)]
        fits = [
            np.array_equal(((colours[one] + 1) * 127.5).round().numpy(), view[at[:, 0], at[:, 1]])
            for view in views
        ]
        assert sum(fits) == 1
        expected = resize(np.ascontiguousarray(views[fits.index(True)]), (6, 6))
        np.testing.assert_array_equal(((lr[one] + 1) * 127.5).round().permute(1, 2, 0).numpy(), expected)
