"""Of some places drawn at random, a crop is taken where there is the most detail."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from torch import Tensor

from esc_sr.data.coordinates import cut_queries
from esc_sr.data.degraded import cut_hr
from esc_sr.data.pairs import cut_pair
from esc_sr.data.pictures import Decoded
from esc_sr.data.places import detail, draw_crop
from esc_sr.train.recipes import Arbitrary, Classic, RealMSE

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
HALF = np.hstack([np.full_like(NOISE, 128), NOISE])  # flat, then noise
SIDE = 16


def pair_of(picture: np.ndarray) -> tuple[Decoded, Decoded]:
    return Decoded("low", picture[::2, ::2]), Decoded("high", picture)


CUTS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "pair": lambda generator, places: cut_pair(
        pair_of(HALF), generator, scale=2, patch=SIDE // 2, places=places
    ),
    "queries": lambda generator, places: cut_queries(
        Decoded("hr", HALF), generator, patch=SIDE, scales=(1, 1), queries=SIDE, places=places
    ),
    "hr": lambda generator, places: cut_hr(Decoded("hr", HALF), generator, side=SIDE, places=places),
    "classic": lambda generator, places: Classic(patch=SIDE // 2, places=places).cut(
        pair_of(HALF), generator, 2
    ),
    "arbitrary": lambda generator, places: Arbitrary(
        patch=SIDE, scales=(1, 1), queries=SIDE, places=places
    ).cut(Decoded("hr", HALF), generator, 2),
    "real": lambda generator, places: RealMSE(patch=4, context=4, places=places).cut(
        Decoded("hr", HALF), generator, 4
    ),
}


def share_of_flat(cut: Callable[..., tuple[Tensor, ...]], places: int) -> float:
    drawn = [cut(np.random.default_rng(seed), places)[-1].float() for seed in range(300)]
    return sum(float(crop.std()) == 0 for crop in drawn) / len(drawn)


@pytest.mark.parametrize("name", CUTS)
def test_flat_places_are_left_where_others_were_drawn(name: str) -> None:
    anywhere = (64 - SIDE + 1) / (128 - SIDE + 1)  # places wholly within the flat half
    assert share_of_flat(CUTS[name], 1) == pytest.approx(anywhere, abs=0.1)
    assert share_of_flat(CUTS[name], 3) == pytest.approx(anywhere**3, abs=0.06)


def test_the_one_with_the_most_detail_is_taken() -> None:
    picture = np.linspace(0, 1, 128)[None, :, None] * (HALF[:, ::-1].astype(np.float32) - 128) + 128
    cut = partial(lambda top, left: picture.astype(np.uint8)[top : top + 8, left : left + 8])
    for seed in range(20):
        generator = np.random.default_rng(seed)
        places = [[int(generator.integers(57)), int(generator.integers(121))] for _ in range(5)]
        best = max(places, key=lambda place: detail(cut(*place)))
        top, left, pixels = draw_crop((64, 128), 8, np.random.default_rng(seed), 5, cut)
        assert [top, left] == best
        np.testing.assert_array_equal(pixels, cut(top, left))


def test_detail_is_the_variance_within_blocks() -> None:
    checks = np.indices((6, 6)).sum(0) % 2 * 20
    assert detail(np.dstack([checks] * 3).astype(np.uint8)) == 100
    assert detail(np.full((6, 6, 3), 200, np.uint8)) == 0
    assert detail(np.dstack([checks] * 3).astype(np.uint8)[:5, :3]) == 100
    assert detail(NOISE[:1, :1]) == 0


@pytest.mark.parametrize("places", [0, -1])
def test_no_place_is_refused(places: int) -> None:
    with pytest.raises(ValueError, match="places"):
        Classic(places=places)
