"""Flat and smooth crops that are drawn."""

import numpy as np
import torch

from esc_sr.bicubic import resize
from esc_sr.data.coordinates import cut_queries
from esc_sr.data.degrade import Degradation, sharpen
from esc_sr.data.degraded import degrade_batches
from esc_sr.data.pictures import Decoded
from esc_sr.data.pool import PairPool
from esc_sr.data.smooth import draw_smooth


def test_both_sizes_show_the_same() -> None:
    flat = saturated = 0
    for seed in range(60):
        lr, hr = draw_smooth(np.random.default_rng(seed), 24, 72)
        assert lr.shape == (3, 24, 24) and hr.shape == (3, 72, 72)
        assert lr.min() >= 0 and hr.max() <= 1
        assert np.abs(lr * 255 - np.rint(lr * 255)).max() < 1e-3
        enlarged = resize(torch.from_numpy(lr)[None], (72, 72))[0].numpy()
        assert np.abs(enlarged - hr).max() < 6 / 255
        steps = max(np.abs(np.diff(hr, axis=axis)).max() for axis in (1, 2))
        assert steps < 0.02
        flat += steps == 0
        saturated += bool(np.isin(lr[:, 0, 0], (0, 1)).any())
    assert 20 < flat < 45
    assert saturated > 15


def test_one_generator_gives_one_picture() -> None:
    one, two = (draw_smooth(np.random.default_rng(5), 16, 41) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_crops_of_any_scale_may_be_smooth() -> None:
    noise = Decoded("noise", np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    generator, smooth = np.random.default_rng(1), 0
    for _ in range(40):
        lr, points, cells, colours = cut_queries(
            noise, generator, patch=16, scales=(1, 4), queries=200, flat=0.5
        )
        assert (
            lr.shape == (3, 16, 16) and points.shape == cells.shape == (200, 2) and colours.shape == (200, 3)
        )
        if (lr.diff(dim=2).abs() < 0.1).all():
            smooth += 1
            at = ((points + 1) * 8).long()
            assert (lr[:, at[:, 0], at[:, 1]].T - colours).abs().max() < 0.1
    assert 10 < smooth < 30


def test_a_teacher_answers_degraded_pictures_and_hr_the_clean_ones() -> None:
    pixels = torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8)

    def batch(clean: float) -> tuple[torch.Tensor, torch.Tensor]:
        return next(
            degrade_batches(
                iter([(pixels,)]),
                Degradation(scale=4, clean=clean),
                patch=16,
                pool=PairPool(8),
                device=torch.device("cpu"),
                seed=1,
                teach=lambda lr, hr: torch.full_like(hr, 0.5),
            )
        )

    (none, half), (some, mixed) = batch(0.0), batch(0.5)
    assert (half == 0.5).all()
    taught = (mixed == 0.5).flatten(1).all(1)
    assert 0 < taught.sum() < 8
    hr = sharpen(pixels.permute(0, 3, 1, 2).float() / 255)
    assert torch.equal(mixed[~taught], hr[~taught])
    assert torch.equal(some[taught], none[taught])
    assert (some[~taught] - resize(hr[~taught], (16, 16)).clamp(0, 1)).abs().max() < 0.51 / 255


def test_degraded_batches_hold_clean_smooth_crops() -> None:
    pixels = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    shares = {}
    for flat in (0.0, 0.5):
        given = iter([(pixels,)] * 6)
        batches = degrade_batches(
            given,
            Degradation(scale=4),
            patch=12,
            pool=PairPool(4),
            device=torch.device("cpu"),
            seed=1,
            flat=flat,
        )
        smooth = [
            hr.diff(dim=2).abs().amax() < 0.02 for _, hr in ((lr, x) for lr, b in batches for x in b[:, None])
        ]
        shares[flat] = float(np.mean([bool(x) for x in smooth]))
    assert shares[0.0] == 0
    assert 0.2 < shares[0.5] < 0.8
