"""Where the real-world recipes get their batches from, and what they are validated on."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from esc_sr.data.degrade import Degradation, Order
from esc_sr.data.degraded import DegradedSampler, degraded_pairs
from esc_sr.data.pool import PairPool
from esc_sr.data.tiles import Tile
from esc_sr.errors import DataError

CPU = torch.device("cpu")
KEEP = Order(
    blur_prob=0, resize=(0, 0, 1), gaussian=1, gaussian_sigma=(0, 0), jpeg_quality=None
)  # nothing happens
REDUCE_ONLY = Degradation(sharpen=False, first=KEEP, second=KEEP, final_sinc=0)


def make_tiles(*sides: int) -> list[Tile]:
    """Smooth pictures, brighter to the lower right, each with a blue of its own."""
    tiles = []
    for number, side in enumerate(sides):
        y, x = np.mgrid[:side, :side] * (250 / side)
        tiles.append(Tile(f"{number}.png", np.stack([y, x, 0 * x + 50 * number], -1).astype(np.uint8)))
    return tiles


def make_sampler(pool: int = 1, settings: Degradation = Degradation()) -> DegradedSampler:
    return DegradedSampler(make_tiles(64, 80), settings, patch=8, context=12, pool=PairPool(pool), device=CPU)


def draw(sampler: DegradedSampler, seed: int, count: int = 1) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [sampler.sample(6, generator) for _ in range(count)]


def test_both_sides_show_the_same_place_mirrored_or_not() -> None:
    ((lr, hr),) = draw(make_sampler(settings=REDUCE_ONLY), 0)
    assert lr.shape == (6, 3, 8, 8) and hr.shape == (6, 3, 32, 32)
    torch.testing.assert_close(lr, F.interpolate(hr, (8, 8), mode="area"), rtol=0, atol=0.02)
    assert (hr[:, 0, -1, 0] > hr[:, 0, 0, 0]).all()  # never upside down or turned
    rises = hr[:, 1, 0, -1] > hr[:, 1, 0, 0]
    assert rises.any() and not rises.all()
    assert set((hr[:, 2].mean((1, 2)) * 255).round().tolist()) == {0, 50}


def test_batches_follow_from_the_generator_and_the_pool() -> None:
    straight, broken = make_sampler(6), make_sampler(6)
    whole = draw(straight, 3, 4)
    generator = torch.Generator().manual_seed(3)
    for _ in range(2):
        broken.sample(6, generator)
    other = make_sampler(6)
    other.pool.load_state_dict(broken.pool.state_dict())
    torch.testing.assert_close([other.sample(6, generator) for _ in range(2)], whole[2:], rtol=0, atol=0)
    assert not torch.equal(draw(make_sampler(6), 4)[0][1], whole[0][1])


def test_pictures_too_small_to_degrade_are_named_with_a_way_out() -> None:
    with pytest.raises(DataError, match=r"1 smaller than 64 px: 0\.png; .* --set context=10") as caught:
        DegradedSampler(make_tiles(40, 64), Degradation(), patch=8, context=16, pool=PairPool(1), device=CPU)
    assert "\n" not in str(caught.value)


def test_validation_pairs_are_the_same_every_time_and_differ_from_each_other() -> None:
    tiles = make_tiles(42, 42)
    tiles[1] = Tile("again.png", tiles[0].pixels)
    first, second = (list(degraded_pairs(tiles, Degradation())) for _ in range(2))
    assert [pair.name for pair in first] == ["0.png", "again.png"]
    for one, other in zip(first, second, strict=True):
        assert one.lr.shape == (10, 10, 3) and one.hr.shape == (40, 40, 3)
        assert np.array_equal(one.hr, tiles[0].pixels[:40, :40])
        assert np.array_equal(one.lr, other.lr)
    assert not np.array_equal(first[0].lr, first[1].lr)
