"""The weights inside the package keep their promises on Set5 and Set14."""

from itertools import product
from pathlib import Path

import pytest
import torch

from esc_sr import weights
from esc_sr.data.pairs import Pair
from esc_sr.data.sets import find_set
from esc_sr.evaluate import predict, score
from esc_sr.network import ESC
from esc_sr.resize import resize

BICUBIC_ON_SET5 = {2: 33.66, 3: 30.39, 4: 28.42}  # dB
GAIN = {2: 1.5, 3: 1.0, 4: 1.0}  # dB, the least
LEAST_ON_SET5 = {"esc-light-x2": 36.0, "esc-light-x3": 32.0, "esc-light-x4": 29.8}  # dB
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
    assert {label.partition(" ")[0] for label in card["benchmarks"]} == {"Set5", "Set14"}
    assert card["iterations"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_light(name: str) -> None:
    assert weights.find(name).stat().st_size < 4 * 2**20
    assert next(weights.load(name).parameters()).dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_better_than_bicubic_on_every_picture(data_dir: Path, name: str) -> None:
    model, card = weights.load(name), weights.card(weights.find(name))
    assert card is not None
    scales = (model.config.scale,) if isinstance(model, ESC) else (2, 3, 4)
    sets = ("Set5", "Set14") if name in ("esc-light-x3", "esc-light-x4") else ("Set5",)
    for scale, benchmark in product(scales, sets):
        gains, found = {}, []
        for pair in find_set(data_dir / benchmark, scale).pairs():
            found.append(score(predict(model, pair.lr, scale), pair.hr, scale)[0])
            gains[pair.name] = found[-1] - bicubic(pair, scale)
        assert min(gains.values()) > 0, gains
        mean = sum(found) / len(found)
        label = benchmark if isinstance(model, ESC) else f"{benchmark} x{scale}"
        assert mean == pytest.approx(card["benchmarks"][label]["psnr_y"], abs=0.01)
        if benchmark == "Set5":
            assert mean >= LEAST_ON_SET5.get(name, BICUBIC_ON_SET5[scale] + GAIN[scale])


def bicubic(pair: Pair, scale: int) -> float:
    sr = resize(pair.lr, (pair.lr.shape[0] * scale, pair.lr.shape[1] * scale))
    return score(sr, pair.hr, scale)[0]
