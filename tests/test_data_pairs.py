"""Crops of LR and HR show the same place the same way up."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from esc_sr.bicubic import downscale
from esc_sr.data.crops import Crops, stack
from esc_sr.data.pairs import cut_pair, make_pairs, turn
from esc_sr.data.pictures import Decoded, Source


def ramp(height: int, width: int) -> NDArray[np.uint8]:
    """Red rises to the right, green downwards: any shift, turn or mirroring shows."""
    y, x = np.mgrid[:height, :width]
    return np.stack([2 * x, 2 * y, x + y], axis=-1).astype(np.uint8)


def take(count: int, pictures: list[Decoded], scale: int, patch: int) -> tuple[Tensor, ...]:
    pairs: list[tuple[Source, Source]] = [
        (Decoded(name, lr), Decoded(name, hr)) for name, lr, hr in make_pairs(pictures, scale)
    ]
    return stack(Crops(pairs, partial(cut_pair, scale=scale, patch=patch), seed=1), range(count))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lr_is_the_whole_picture_reduced_and_hr_cropped_to_match(scale: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 71, 3), dtype=np.uint8)
    (pair,) = make_pairs([Decoded("a", picture)], scale)
    np.testing.assert_array_equal(pair.lr, downscale(picture, scale))
    assert pair.hr.shape == (pair.lr.shape[0] * scale, pair.lr.shape[1] * scale, 3)
    np.testing.assert_array_equal(pair.hr, picture[: pair.hr.shape[0], : pair.hr.shape[1]])


@pytest.mark.parametrize("scale", [2, 3])
def test_lr_crop_is_the_reduced_hr_crop_in_every_symmetry(scale: int) -> None:
    lr, hr = take(64, [Decoded("ramp", ramp(120, 126))], scale, patch=10)
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
    low, high = (
        Decoded("a", np.full((4, 4, 3), 51, np.uint8)),
        Decoded("a", np.full((8, 8, 3), 255, np.uint8)),
    )
    lr, hr = cut_pair((low, high), np.random.default_rng(0), scale=2, patch=4)
    assert (lr == 0.2).all()
    assert (hr == 1).all()


def test_all_places_and_pictures_are_drawn_evenly() -> None:
    pictures = [Decoded(str(i), np.full((10, 12, 3), 100 * i, np.uint8) + ramp(10, 12)) for i in range(2)]
    lr, _ = take(2000, pictures, 2, patch=4)
    corners = (255 * lr.amin(dim=(2, 3))[:, :2]).round().int()
    counts = Counter(map(tuple, corners.tolist()))
    assert len(counts) == 2 * 2 * 3
    assert min(counts.values()) > 2000 / 12 * 0.75
