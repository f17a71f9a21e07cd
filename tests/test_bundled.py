"""The weights inside the package keep their promises on Set5 and Set14."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from esc_sr import weights
from esc_sr.bicubic import resize
from esc_sr.data.pairs import Pair
from esc_sr.data.sets import find_set
from esc_sr.evaluate import Protocol, predict, score
from esc_sr.families.contract import Network
from esc_sr.families.esc import ESC
from esc_sr.image import read_image
from esc_sr.train.recipes import learnt_degraded
from esc_sr.weights.checkpoint import HASH
from esc_sr.weights.facts import read_header
from peer_files import published

BICUBIC_ON_SET5 = {2: 33.66, 3: 30.39, 4: 28.42}  # dB
GAIN = {2: 1.5, 3: 1.0, 4: 1.0}  # dB, the least
GAIN_ARBITRARY = 3.1  # dB, the same of weights for every scale
LEAST_ON_SET5 = {
    "esc-light-x2": 37.7,
    "esc-light-x3": 34.0,
    "esc-light-x4": 31.75,
    "esc-x2": 37.7,
    "esc-x3": 34.0,
    "esc-x4": 31.75,
    "esc-fp-x2": 37.05,
    "esc-fp-x3": 33.1,
    "esc-fp-x4": 30.85,
    "esc-light-real-x2": 32.6,
    "esc-light-real-x4": 28.7,
    "esc-light-real-weak-x4": 30.2,
    "esc-real-x4": 28.7,
}  # dB
DISTANCE_TO_TEACHER = {
    "esc-light-real-x2": 0.455,
    "esc-light-real-x4": 0.43,
    "esc-light-real-weak-x4": 0.725,
    "esc-real-x4": 0.485,
}  # of bicubic's
NAMES = [name for name, _, _ in weights.bundled()]
MEASURED_AGAIN = set(NAMES) - {"esc-fp-x2", "esc-lte"}  # these take long


def card(name: str) -> dict[str, Any]:
    found = weights.card(weights.find(name))
    assert found is not None
    return found


PUPILS = [name for name in NAMES if learnt_degraded(card(name))]
"""Held to their teachers' pictures, not to HR."""


def test_what_is_bundled() -> None:
    every = {f"{network}-x{scale}" for network in ("esc", "esc-light", "esc-fp") for scale in (2, 3, 4)}
    assert {*every, "esc-lte", "esc-real-x4"} <= set(NAMES)
    assert {"esc-light-real-x2", "esc-light-real-x4", "esc-light-real-weak-x4"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_cards_say_what_was_done(name: str) -> None:
    facts = card(name)
    assert facts.keys() >= {
        "data",
        "iterations",
        "batch",
        "patch",
        "hours",
        "hardware",
        "benchmarks",
        "stored_as",
    }
    assert {label.partition(" ")[0] for label in facts["benchmarks"]} == {"Set5", "Set14"}
    assert facts["iterations"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_light_and_hashed(name: str) -> None:
    path = weights.find(name)
    assert path.stat().st_size < 5 * 2**20
    assert HASH in read_header(path), (
        "written by an older esc-sr; `esc-sr convert` makes a file with a hash of it"
    )
    assert next(weights.load(name).parameters()).dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_better_than_bicubic_on_every_picture(data_dir: Path, name: str) -> None:
    model = weights.load(name)
    scale = model.config.scale if isinstance(model, ESC) else 3
    for benchmark in ("Set5", "Set14") if name == "esc-light-x4" else ("Set5",):
        pairs = find_set(data_dir / benchmark, scale).pairs()
        if name not in MEASURED_AGAIN:
            pairs = (pair for pair in pairs if max(pair.hr.shape) < 400)
        psnr, gains = compare(model, pairs, scale)
        assert name in PUPILS or min(gains.values()) > 0, gains
        if name in MEASURED_AGAIN:
            assert psnr == pytest.approx(card(name)["benchmarks"][benchmark]["psnr_y"], abs=0.01)
            if benchmark == "Set5":
                assert psnr >= least_on_set5(name, scale)


@pytest.mark.parametrize("name", NAMES)
def test_cards_promise_enough_on_set5(name: str) -> None:
    model, scores = weights.load(name), card(name)["benchmarks"]
    if isinstance(model, ESC):
        assert scores["Set5"]["psnr_y"] >= least_on_set5(name, model.config.scale)
    else:
        for scale in (2, 3, 4):
            assert scores[f"Set5 x{scale}"]["psnr_y"] >= BICUBIC_ON_SET5[scale] + GAIN_ARBITRARY


@pytest.mark.parametrize("name", PUPILS)
def test_pupils_make_what_their_teachers_make(data_dir: Path, name: str) -> None:
    """L1 distance to the teacher's pictures, in the pupil's size, over bicubic's, on centres of RealSRSet."""
    pupil, own, others = weights.load(name), 0.0, 0.0
    for lr, taught in answers(data_dir / "RealSRSet", card(name)["teacher"]["name"]):
        with torch.no_grad():
            found = pupil(lr).clamp(0, 1)
        size = found.shape[2], found.shape[3]
        wanted = resize(taught, size).clamp(0, 1)
        own += float((found - wanted).abs().mean())
        others += float((resize(lr, size).clamp(0, 1) - wanted).abs().mean())
    assert own <= DISTANCE_TO_TEACHER[name] * others


@cache
def answers(folder: Path, teacher: str) -> list[tuple[Tensor, Tensor]]:
    """Centres of the pictures of a folder, and what a teacher makes of them."""
    network, found = weights.load(published(teacher)), []
    for path in sorted(folder.glob("*.png")):
        pixels = read_image(path).pixels
        top, left = (side // 2 - 48 for side in pixels.shape[:2])
        centre = np.ascontiguousarray(pixels[top : top + 96, left : left + 96])
        lr = torch.from_numpy(centre).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            found.append((lr, network(lr)))
    return found


def least_on_set5(name: str, scale: int) -> float:
    return LEAST_ON_SET5.get(name, BICUBIC_ON_SET5[scale] + GAIN[scale])


def compare(model: Network, pairs: Iterable[Pair], scale: int) -> tuple[float, dict[str, float]]:
    """Mean PSNR, and how much each picture has more than bicubic, dB."""
    protocol, found, gains = Protocol.of(model), [], {}
    for pair in pairs:
        found.append(score(predict(model, pair.lr, scale, protocol), pair.hr, scale, protocol)[0])
        gains[pair.name] = found[-1] - bicubic(pair, scale)
    return sum(found) / len(found), gains


def bicubic(pair: Pair, scale: int) -> float:
    sr = resize(pair.lr, (pair.lr.shape[0] * scale, pair.lr.shape[1] * scale))
    return score(sr, pair.hr, scale)[0]
