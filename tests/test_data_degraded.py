"""Where the real-world recipes get their batches from, and what they are validated on."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from esc_sr.data import degraded
from esc_sr.data.crops import Crops
from esc_sr.data.crops import batches as joint_batches
from esc_sr.data.degrade import Degradation, Order, degrade
from esc_sr.data.degraded import cut_hr, degrade_batches, degraded_pairs
from esc_sr.data.pictures import Decoded
from esc_sr.data.pool import PairPool
from esc_sr.train.recipes.real import NATIVE

CPU = torch.device("cpu")
KEEP = Order(
    blur_prob=0, resize=(0, 0, 1), gaussian=1, gaussian_sigma=(0, 0), jpeg_quality=None
)  # nothing happens
REDUCE_ONLY = Degradation(sharpen=False, first=KEEP, second=KEEP, final_sinc=0)


def make_pictures(*sides: int) -> list[Decoded]:
    """Smooth pictures, brighter to the lower right, each with a blue of its own."""
    pictures = []
    for number, side in enumerate(sides):
        y, x = np.mgrid[:side, :side] * (250 / side)
        pictures.append(Decoded(f"{number}.png", np.stack([y, x, 0 * x + 50 * number], -1).astype(np.uint8)))
    return pictures


def batches(
    pool: PairPool,
    settings: Degradation = Degradation(),
    seed: int = 0,
    start: int = 0,
    rank: int = 0,
    draws: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    crops = Crops(make_pictures(64, 80), partial(cut_hr, side=48), seed)
    given = joint_batches(crops, 6, start)
    return degrade_batches(
        given, settings, patch=8, pool=pool, device=CPU, seed=seed, start=start, rank=rank, draws=draws
    )


def test_both_sides_show_the_same_place_mirrored_or_not() -> None:
    lr, hr = next(batches(PairPool(1), REDUCE_ONLY))
    assert lr.shape == (6, 3, 8, 8) and hr.shape == (6, 3, 32, 32)
    torch.testing.assert_close(lr, F.interpolate(hr, (8, 8), mode="area"), rtol=0, atol=0.02)
    assert (hr[:, 0, -1, 0] > hr[:, 0, 0, 0]).all()  # never upside down or turned
    rises = hr[:, 1, 0, -1] > hr[:, 1, 0, 0]
    assert rises.any() and not rises.all()
    assert set((hr[:, 2].mean((1, 2)) * 255).round().tolist()) == {0, 50}


def test_each_part_of_a_batch_is_degraded_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def watched(hr: Tensor, settings: Degradation, generator: torch.Generator) -> Tensor:
        seen.append(len(hr))
        return degrade(hr, settings, generator)

    monkeypatch.setattr(degraded, "degrade", watched)
    lr, hr = next(batches(PairPool(1), draws=4))
    assert (seen, len(lr), len(hr)) == ([2, 2, 2], 6, 6)  # six do not make four equal parts
    parts = next(batches(PairPool(1), REDUCE_ONLY, draws=3))
    torch.testing.assert_close(parts[0], F.interpolate(parts[1], (8, 8), mode="area"), rtol=0, atol=0.02)


def test_lr_may_be_crops_of_the_pictures_as_they_are() -> None:
    pixels = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8)
    given = partial(degrade_batches, patch=8, device=CPU, seed=0, teach=lambda lr, hr: hr.mean() + 0 * hr)
    for clean in (1.0, 0.0):
        others = [(1.0, replace(NATIVE, clean=clean))]
        lr, target = next(given(iter([(pixels,)]), REDUCE_ONLY, pool=PairPool(1), others=others))
        assert target.shape == (2, 3, 32, 32) and target.std() < 1e-6
        for crop, picture in zip(lr, pixels.permute(0, 3, 1, 2) / 255, strict=True):
            places = picture.unfold(1, 8, 1).unfold(2, 8, 1)
            assert (places == crop[:, None, None]).all((0, 3, 4)).any() == bool(clean)


def test_a_part_of_a_batch_is_degraded_in_one_of_some_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randint(0, 256, (1, 48, 48, 3), dtype=torch.uint8)
    seen: list[Degradation] = []

    def watched(hr: Tensor, settings: Degradation, generator: torch.Generator) -> Tensor:
        seen.append(settings)
        return degrade(hr, settings, generator)

    monkeypatch.setattr(degraded, "degrade", watched)
    others = [(0.5, replace(REDUCE_ONLY, sharpen=True)), (0.25, Degradation())]
    made = degrade_batches(
        iter([(pixels,)] * 60), REDUCE_ONLY, patch=8, pool=PairPool(1), device=CPU, seed=0, others=others
    )
    assert len(list(made)) == 60
    counts = [seen.count(kind) for kind in (others[0][1], others[1][1], REDUCE_ONLY)]
    assert sum(counts) == 60 and 20 <= counts[0] <= 40 and 6 <= counts[1] <= 24 and 6 <= counts[2] <= 24


def test_batches_follow_from_the_step_and_the_pool() -> None:
    whole = list(islice(batches(PairPool(6)), 4))
    first, second = PairPool(6), PairPool(6)
    list(islice(batches(first), 2))
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(list(islice(batches(second, start=2), 2)), whole[2:], rtol=0, atol=0)
    for other in (batches(PairPool(6), seed=1), batches(PairPool(6), rank=1)):
        assert not torch.equal(next(other)[0], whole[0][0])


def test_validation_pairs_are_the_same_every_time_and_differ_from_each_other() -> None:
    pictures = make_pictures(42, 42)
    pictures[1] = Decoded("again.png", pictures[0].pixels)
    first, second = (list(degraded_pairs(pictures, Degradation())) for _ in range(2))
    assert [pair.name for pair in first] == ["0.png", "again.png"]
    for one, other in zip(first, second, strict=True):
        assert one.lr.shape == (10, 10, 3) and one.hr.shape == (40, 40, 3)
        assert np.array_equal(one.hr, pictures[0].pixels[:40, :40])
        assert np.array_equal(one.lr, other.lr)
    assert not np.array_equal(first[0].lr, first[1].lr)


def test_degrading_now_and_then_draws_from_the_pool_in_between() -> None:
    pixels = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8)
    pool = PairPool(4)
    settings = Degradation(scale=4)
    batches = degrade_batches(
        iter([(pixels,)] * 8), settings, patch=8, pool=pool, device=CPU, seed=1, redraw=3
    )
    states = []
    for _ in batches:
        states.append(pool.state_dict()["lr"].clone())
    changed = [
        not torch.equal(a, b) if a.shape == b.shape else True
        for a, b in zip(states, states[1:], strict=False)
    ]
    assert changed == [True, False, True, False, False, True, False]  # full after two, then at steps 3 and 6
