"""From a run's averaged weights to a file for users: stored small, with scores on its card."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from esc_sr import weights
from esc_sr.data.degrade import Degradation
from esc_sr.data.degraded import degraded_pairs, sharpened_hr
from esc_sr.data.pairs import Pair
from esc_sr.data.pictures import Decoded
from esc_sr.data.sets import find_set
from esc_sr.errors import WeightsError
from esc_sr.evaluate import Protocol, Scores, evaluate
from esc_sr.families.contract import Network
from esc_sr.train.recipes import learnt_degraded
from esc_sr.weights.conversion import check_folder

HARMLESS = 0.005
"""Weights are stored in float16 where the PSNR on Set5 changes by less than this many dB."""


def publish(
    source: Path,
    out: Path,
    benchmarks: Path,
    note: str | None = None,
    notify: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Measure weights with the paper's protocol and write them, with the scores on their card.

    Args:
        source: Weights, for example `ema.safetensors` of a run. A network for any size is measured at x2, x3
            and x4, one that learnt from degraded LR also on such LR, against HR as it is and against HR
            sharpened as in the loss.
        out: File to write, .safetensors.
        benchmarks: Folder that holds Set5 and Set14, laid out as `data.sets.find_set` says.
        note: A sentence for the card.
        notify: Called with a line for each score, as soon as it is known.

    Returns:
        The card.

    Raises:
        WeightsError: The weights cannot be read, or `out` cannot be written.
        DataError: A benchmark set is missing.
    """
    check_folder(out)
    model = weights.load(source)
    card = dict(weights.card(source) or {})
    halved = deepcopy(model).half().float()
    stored, dtype, set5 = model, torch.float32, measure(model, benchmarks, "Set5", notify)
    with suppress(WeightsError):  # float16 may overflow
        half = measure(halved, benchmarks, "Set5", lambda line: notify(f"{line}, in float16"))
        if all(abs(set5[name].psnr - half[name].psnr) < HARMLESS for name in set5):
            stored, dtype, set5 = halved, torch.float16, half
    scores = set5 | measure(stored, benchmarks, "Set14", notify)
    if stored.config.scale is not None and learnt_degraded(card):
        scores |= _measure_degraded(stored, benchmarks, "Set5", notify)
    card["stored_as"] = str(dtype).removeprefix("torch.")
    card["benchmarks"] = {
        name: {"psnr_y": round(found.psnr, 3), "ssim_y": round(found.ssim, 4)}
        for name, found in scores.items()
    }
    if note:
        card["note"] = note
    weights.save(model, out, card, dtype)
    return card


def measure(
    model: Network, benchmarks: Path, name: str, notify: Callable[[str], object] = lambda line: None
) -> dict[str, Scores]:
    """Mean scores on a set, on Y, border = scale; by the set's name, for any size with each scale added."""
    found = {}
    own = model.config.scale
    for scale in (own,) if own else (2, 3, 4):
        label = name if own else f"{name} x{scale}"
        pairs = find_set(benchmarks / name, scale).pairs()
        found[label] = _scores(model, pairs, scale, label, notify)
    return found


def degraded_set(benchmarks: Path, name: str, scale: int) -> Iterator[Pair]:
    """The pictures of a set with LR that is degraded as in `RealMSE`, the same every time."""
    pictures = (Decoded(pair.name, pair.hr) for pair in find_set(benchmarks / name, scale).pairs())
    return degraded_pairs(pictures, Degradation(scale=scale))


def _measure_degraded(
    model: Network, benchmarks: Path, name: str, notify: Callable[[str], object]
) -> dict[str, Scores]:
    """As `measure`, on `degraded_set`."""
    scale = model.config.scale or 1
    plain = list(degraded_set(benchmarks, name, scale))
    labels = {f"{name} degraded": plain, f"{name} degraded, HR sharpened": map(sharpened_hr, plain)}
    return {label: _scores(model, pairs, scale, label, notify) for label, pairs in labels.items()}


def _scores(
    model: Network, pairs: Iterable[Pair], scale: int, label: str, notify: Callable[[str], object]
) -> Scores:
    """Mean scores by the paper's protocol, reported under a label."""
    found = evaluate(model, pairs, scale, Protocol.of(model))
    notify(f"{label}: {found.psnr:.3f} dB, SSIM {found.ssim:.4f}")
    return found
