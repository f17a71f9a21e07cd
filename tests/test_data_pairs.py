"""Crops of LR and HR show the same place the same way up."""

from collections import Counter

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from esc_sr.data.pairs import CropSampler, Pair, make_pairs, turn
from esc_sr.data.tiles import Tile
from esc_sr.errors import DataError
from esc_sr.resize import downscale


def ramp(height: int, width: int) -> NDArray[np.uint8]:
    """Red rises to the right, green downwards: any shift, turn or mirroring shows."""
    y, x = np.mgrid[:height, :width]
    return np.stack([2 * x, 2 * y, x + y], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lr_is_the_whole_picture_reduced_and_hr_cropped_to_match(scale: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 71, 3), dtype=np.uint8)
    (pair,) = make_pairs([Tile("a", picture)], scale)
    np.testing.assert_array_equal(pair.lr, downscale(picture, scale))
    assert pair.hr.shape == (pair.lr.shape[0] * scale, pair.lr.shape[1] * scale, 3)
    np.testing.assert_array_equal(pair.hr, picture[: pair.hr.shape[0], : pair.hr.shape[1]])


@pytest.mark.parametrize("scale", [2, 3])
def test_lr_crop_is_the_reduced_hr_crop_in_every_symmetry(scale: int) -> None:
    pairs = list(make_pairs([Tile("ramp", ramp(120, 126))], scale))
    lr, hr = CropSampler(pairs, scale, patch=10).sample(64, torch.Generator().manual_seed(1))
    assert lr.shape == (64, 3, 10, 10)
    assert hr.shape == (64, 3, 10 * scale, 10 * scale)
    assert lr.dtype == hr.dtype == torch.float32
    blocks = torch.nn.functional.avg_pool2d(hr, scale)
    # One LR pixel is 2 * scale levels; rounding and the mirrored edge of a ramp stay below one.
    assert (255 * (lr - blocks)).abs().max() < 1.2
    slopes = {
        tuple(torch.stack([crop[c].diff(dim=d).mean().sign() for c in (0, 1) for d in (0, 1)]).int().tolist())
        for crop in hr
    }
    assert len(slopes) == 8


def test_turn_makes_the_eight_symmetries() -> None:
    picture = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    turned = {turn(picture, symmetry).tobytes() for symmetry in range(8)}
    assert len(turned) == 8
    np.testing.assert_array_equal(turn(picture, 0), picture)


def test_values_are_bytes_over_255() -> None:
    pair = Pair("a", np.full((4, 4, 3), 51, np.uint8), np.full((8, 8, 3), 255, np.uint8))
    lr, hr = CropSampler([pair], 2, 4).sample(1, torch.Generator())
    assert (lr == 0.2).all()
    assert (hr == 1).all()


def test_the_generator_alone_decides_the_crops() -> None:
    rng = np.random.default_rng(0)
    tiles = [Tile(str(i), rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)) for i in range(3)]
    sampler = CropSampler(list(make_pairs(tiles, 2)), 2, 8)
    generator = torch.Generator().manual_seed(5)
    first, state = sampler.sample(4, generator), generator.get_state()
    second = sampler.sample(4, generator)
    again = sampler.sample(4, torch.Generator().manual_seed(5))
    generator.set_state(state)
    resumed = sampler.sample(4, generator)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    torch.testing.assert_close(second, resumed, rtol=0, atol=0)
    assert not torch.equal(first[0], second[0])


def test_all_places_and_pictures_are_drawn_evenly() -> None:
    tiles = [Tile(str(i), np.full((10, 12, 3), 100 * i, np.uint8) + ramp(10, 12)) for i in range(2)]
    pairs = list(make_pairs(tiles, 2))
    lr, _ = CropSampler(pairs, 2, 4).sample(2000, torch.Generator().manual_seed(0))
    corners = (255 * lr.amin(dim=(2, 3))[:, :2]).round().int()
    counts = Counter(map(tuple, corners.tolist()))
    assert len(counts) == 2 * 2 * 3
    assert min(counts.values()) > 2000 / 12 * 0.75


@pytest.mark.parametrize("pairs", [0, 1])
def test_no_pair_or_one_below_the_patch_is_refused(pairs: int) -> None:
    small = Pair("small.png", np.zeros((8, 20, 3), np.uint8), np.zeros((16, 40, 3), np.uint8))
    with pytest.raises(DataError, match=r"small\.png" if pairs else "none"):
        CropSampler([small] * pairs, 2, 9)
