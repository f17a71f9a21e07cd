"""From a run's averaged weights to a file for users: stored small, with scores on its card."""

from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from esc_sr import weights
from esc_sr.data.degrade import Degradation
from esc_sr.data.degraded import degraded_pairs
from esc_sr.data.pairs import Pair
from esc_sr.data.sets import find_set
from esc_sr.data.tiles import Tile
from esc_sr.errors import WeightsError
from esc_sr.evaluate import Protocol, Scores, evaluate
from esc_sr.network import ESC, ESCLTE
from esc_sr.train.recipes import REAL

HARMLESS = 0.005
"""Weights are stored in float16 where the PSNR on Set5 changes by less than this many dB."""


def publish(source: Path, out: Path, benchmarks: Path, note: str | None = None) -> dict[str, Any]:
    """Measure weights with the paper's protocol and write them, with the scores on their card.

    Args:
        source: Weights, for example `ema.safetensors` of a run. ESC+LTE is measured at x2, x3 and x4, a
            network of the recipes `REAL` also on LR that is made as in training.
        out: File to write, .safetensors.
        benchmarks: Folder that holds Set5 and Set14, laid out as `data.sets.find_set` says.
        note: A sentence for the card.

    Returns:
        The card.

    Raises:
        WeightsError: The weights cannot be read, or `out` cannot be written.
        DataError: A benchmark set is missing.
    """
    model = weights.load(source)
    card = dict(weights.card(source) or {})
    halved = deepcopy(model).half().float()
    stored, dtype, set5 = model, torch.float32, measure(model, benchmarks, "Set5")
    with suppress(WeightsError):  # float16 may overflow
        half = measure(halved, benchmarks, "Set5")
        if all(abs(set5[name].psnr - half[name].psnr) < HARMLESS for name in set5):
            stored, dtype, set5 = halved, torch.float16, half
    degraded = {}
    if isinstance(stored, ESC) and card.get("recipe") in REAL:
        scale = stored.config.scale
        pairs = degraded_set(benchmarks, "Set5", scale)
        degraded["Set5 degraded"] = evaluate(stored, pairs, scale, Protocol.of(stored))
    card["stored_as"] = str(dtype).removeprefix("torch.")
    card["benchmarks"] = {
        name: {"psnr_y": round(found.psnr, 3), "ssim_y": round(found.ssim, 4)}
        for name, found in (set5 | measure(stored, benchmarks, "Set14") | degraded).items()
    }
    if note:
        card["note"] = note
    weights.save(model, out, card, dtype)
    return card


def measure(model: ESC | ESCLTE, benchmarks: Path, name: str) -> dict[str, Scores]:
    """Mean scores on a set, on Y, border = scale; by the set's name, for ESC+LTE with each scale added."""
    scales = (model.config.scale,) if isinstance(model, ESC) else (2, 3, 4)
    protocol = Protocol.of(model)
    found = {}
    for scale in scales:
        label = name if isinstance(model, ESC) else f"{name} x{scale}"
        found[label] = evaluate(model, find_set(benchmarks / name, scale).pairs(), scale, protocol)
    return found


def degraded_set(benchmarks: Path, name: str, scale: int) -> Iterator[Pair]:
    """The pictures of a set with LR that is degraded like that of `REAL`, the same every time."""
    pictures = (Tile(pair.name, pair.hr) for pair in find_set(benchmarks / name, scale).pairs())
    return degraded_pairs(pictures, Degradation(scale=scale))
