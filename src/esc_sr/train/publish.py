"""From a run's averaged weights to a file for users: stored small, with scores on its card."""

from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from esc_sr import weights
from esc_sr.data.sets import find_set
from esc_sr.errors import WeightsError
from esc_sr.evaluate import Scores, evaluate
from esc_sr.network import ESC

HARMLESS = 0.005
"""Weights are stored in float16 where the PSNR on Set5 changes by less than this many dB."""


def publish(source: Path, out: Path, benchmarks: Path, note: str | None = None) -> dict[str, Any]:
    """Measure weights with the paper's protocol and write them, with the scores on their card.

    Args:
        source: Weights of a whole-number scale, for example `ema.safetensors` of a run.
        out: File to write, .safetensors.
        benchmarks: Folder that holds Set5 and Set14, laid out as `data.sets.find_set` says.
        note: A sentence for the card.

    Returns:
        The card.

    Raises:
        WeightsError: The weights cannot be read, are of another kind, or `out` cannot be written.
        DataError: A benchmark set is missing.
    """
    model = weights.load(source)
    if not isinstance(model, ESC):
        raise WeightsError(
            f"{source}: has no scale of its own; weights of a whole-number scale are published"
        )
    card = dict(weights.card(source) or {})
    halved = deepcopy(model).half().float()
    stored, dtype, set5 = model, torch.float32, measure(model, benchmarks, "Set5")
    with suppress(WeightsError):  # float16 may overflow
        half = measure(halved, benchmarks, "Set5")
        if abs(set5.psnr - half.psnr) < HARMLESS:
            stored, dtype, set5 = halved, torch.float16, half
    scores = {"Set5": set5, "Set14": measure(stored, benchmarks, "Set14")}
    card["stored_as"] = str(dtype).removeprefix("torch.")
    card["benchmarks"] = {
        name: {"psnr_y": round(found.psnr, 3), "ssim_y": round(found.ssim, 4)}
        for name, found in scores.items()
    }
    if note:
        card["note"] = note
    weights.save(model, out, card, dtype)
    return card


def measure(model: ESC, benchmarks: Path, name: str) -> Scores:
    """Mean scores on a benchmark set, on Y, border = scale, whole picture padded to a multiple of 32."""
    scale = model.config.scale
    return evaluate(model, find_set(benchmarks / name, scale).pairs(), scale)
