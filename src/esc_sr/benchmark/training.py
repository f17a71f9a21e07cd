"""Speed and memory of a training step: forward, backward, optimizer, averaged weights (Supp. 6.1)."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from esc_sr.benchmark.measure import Record, Rule, measure, tuned
from esc_sr.benchmark.networks import build, kernels_of
from esc_sr.record import document, environment
from esc_sr.train.checkpoint import State
from esc_sr.train.losses import Distance
from esc_sr.train.recipes import Arbitrary, Classic
from esc_sr.train.step import prepare, step

RECIPE = Classic()


@dataclass(frozen=True)
class TrainingCase:
    """A step of the recipe classic, or for a network of any size of arbitrary, from fresh weights on noise.

    Attributes:
        model: A name for `networks.build`.
        scale: Enlargement.
        batch: Crops at once.
        patch: Side of an LR crop in pixels.
        backend: How self-attention is computed.
        precision: As of `esc-sr train`.
    """

    model: str
    scale: int
    batch: int
    patch: int
    backend: str = "sdpa"
    precision: str = "fp32"

    def facts(self) -> Record:
        """What it is, for the record."""
        return {
            "model": self.model,
            "scale": self.scale,
            "batch": self.batch,
            "patch": self.patch,
            "backend": self.backend,
            "precision": self.precision,
        }

    def small(self) -> "TrainingCase":
        """The same on one crop of a window."""
        return replace(self, batch=1, patch=min(self.patch, 32))

    @torch.inference_mode(False)
    def prepare(self, device: torch.device) -> Callable[[], object]:
        """Build a run and a batch; running takes a step, and gives the losses."""
        torch.manual_seed(0)
        network = build(self.model, self.scale).to(device).train()
        network.attention = self.backend
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.0, fused=True)
        ema = deepcopy(network).requires_grad_(False)
        scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")
        state = State(network, ema, Distance(), optimizer, scaler=scaler)
        recipe = replace(RECIPE, batch=self.batch, patch=self.patch)
        batch = tuple(part.to(device) for part in self._batch(network.config.scale is None))
        forward = prepare(network)

        @torch.inference_mode(False)
        def run() -> object:
            with kernels_of(self.backend):
                return step(state, forward, batch, recipe, recipe.lr, self.precision)

        return run

    def _batch(self, any_scale: bool) -> tuple[Tensor, ...]:
        """Noise: LR and HR; or LR, points, their cells and colours."""
        lr = torch.rand(self.batch, 3, self.patch, self.patch)
        if not any_scale:
            side = self.scale * self.patch
            return lr, torch.rand(self.batch, 3, side, side)
        points = 2 * torch.rand(self.batch, Arbitrary().queries, 2) - 1
        cells = torch.full_like(points, 2 / (self.scale * self.patch))
        return lr, points, cells, torch.rand(self.batch, Arbitrary().queries, 3)


def training(
    cases: Sequence[TrainingCase], device: torch.device, rule: Rule, report: Callable[[str], object]
) -> dict[str, Any]:
    """Measure training steps, as `measure` says, and compare backends.

    Returns:
        A document: environment, rule, and a row per case with it_per_s, steps per second by the median;
        px_per_s, LR pixels per second; and speedup, over the naive backend where that was measured; each None
        where it is not known.
    """
    with tuned():
        facts = environment(device)
    rows = measure(cases, device, rule, report)
    for row in rows:
        row["it_per_s"] = 1e3 / row["median_ms"] if row["median_ms"] else None
        row["px_per_s"] = row["it_per_s"] and row["it_per_s"] * row["batch"] * row["patch"] ** 2
    for row in rows:
        naive = next(
            (r["it_per_s"] for r in rows if r["backend"] == "naive" and _work(r) == _work(row)), None
        )
        row["speedup"] = row["it_per_s"] / naive if naive and row["it_per_s"] else None
    return document("training", rows, environment=facts, warmup=rule.warmup, runs=rule.runs)


def _work(row: Record) -> tuple[Any, ...]:
    """What the same work on another backend has in common."""
    return tuple(row[key] for key in ("model", "scale", "batch", "patch", "precision"))
