"""The weights inside the package keep their promises on Set5 and Set14."""

from pathlib import Path

import pytest
import torch

from esc_sr import weights
from esc_sr.data.pairs import Pair
from esc_sr.data.sets import find_set
from esc_sr.evaluate import predict, score
from esc_sr.network import ESC
from esc_sr.resize import resize

LEAST_ON_SET5 = {2: 36.0, 3: 32.0, 4: 29.8}  # dB; bicubic has 33.66, 30.39 and 28.42
NAMES = [name for name, _, _ in weights.bundled()]


def test_esc_light_is_bundled_at_every_scale() -> None:
    assert {"esc-light-x2", "esc-light-x3", "esc-light-x4"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_cards_say_what_was_done(name: str) -> None:
    card = weights.card(weights.find(name))
    assert card is not None
    assert {"data", "iterations", "batch", "patch", "hours", "hardware", "benchmarks", "stored_as"} <= set(
        card
    )
    assert set(card["benchmarks"]) == {"Set5", "Set14"}
    assert card["iterations"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_light(name: str) -> None:
    assert weights.find(name).stat().st_size < 2 * 2**20
    assert next(weights.load(name).parameters()).dtype == torch.float32


@pytest.mark.parametrize("scale", LEAST_ON_SET5)
def test_esc_light_is_better_than_bicubic_on_every_picture(data_dir: Path, scale: int) -> None:
    model = weights.load("esc-light", scale=scale)
    assert isinstance(model, ESC)
    card = weights.card(weights.find("esc-light", scale))
    assert card is not None
    for name in ("Set5", "Set14"):
        gains = {}
        found = []
        for pair in find_set(data_dir / name, scale).pairs():
            found.append(score(predict(model, pair.lr, scale), pair.hr, scale)[0])
            gains[pair.name] = found[-1] - bicubic(pair, scale)
        assert min(gains.values()) > 0, gains
        mean = sum(found) / len(found)
        assert mean == pytest.approx(card["benchmarks"][name]["psnr_y"], abs=0.01)
        if name == "Set5":
            assert mean >= LEAST_ON_SET5[scale]


def bicubic(pair: Pair, scale: int) -> float:
    sr = resize(pair.lr, (pair.lr.shape[0] * scale, pair.lr.shape[1] * scale))
    return score(sr, pair.hr, scale)[0]
