"""Latency and memory of whole networks (Table 2)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from esc_sr.benchmark.complexity import costs
from esc_sr.benchmark.measure import Rule, measure, tuned
from esc_sr.benchmark.networks import build, kernels_of
from esc_sr.errors import UsageError
from esc_sr.machine.precision import autocast, check_precision
from esc_sr.network.attention import BACKENDS, best_backend
from esc_sr.record import document, environment
from esc_sr.upscaling.runner import Sides


@dataclass(frozen=True)
class NetworkCase:
    """A network with fresh weights on noise.

    Attributes:
        model: A name for `networks.build`.
        scale: Enlargement.
        input: Height and width of the LR picture.
        batch: Pictures at once.
        backend: How self-attention is computed.
        precision: As of `esc-sr upscale`: below fp32, autocast decides per layer.
    """

    model: str
    scale: int
    input: Sides
    batch: int = 1
    backend: str = "sdpa"
    precision: str = "fp32"

    def facts(self) -> dict[str, Any]:
        """What it is, for the record, which has the width first."""
        height, width = self.input
        return {
            "model": self.model,
            "scale": self.scale,
            "input": (width, height),
            "output": (width * self.scale, height * self.scale),
            "batch": self.batch,
            "backend": self.backend,
            "precision": self.precision,
        }

    def small(self) -> "NetworkCase":
        """The same on two windows."""
        return replace(self, input=(32, 64), batch=1)

    def prepare(self, device: torch.device) -> Callable[[], object]:
        """Build the network and its input; running gives the enlarged pictures."""
        torch.manual_seed(0)
        network = build(self.model, self.scale).to(device)
        network.attention = self.backend
        height, width = self.input
        lr = torch.rand(self.batch, 3, height, width).to(device)

        def run() -> object:
            with kernels_of(self.backend), autocast(device, self.precision):
                return network.enlarge(lr, self.scale)

        return run


def check(backends: Iterable[str], precision: str) -> None:
    """Refuse backends and a precision that there are not.

    Raises:
        UsageError: One is unknown.
    """
    for backend in backends:
        if backend not in BACKENDS:
            raise UsageError(f"no attention backend is called {backend!r}; there are {', '.join(BACKENDS)}")
    check_precision(precision)


def resolve(backends: Iterable[str], device: torch.device) -> list[str]:
    """Name what "auto" stands for on a device; each backend once."""
    return list(dict.fromkeys(best_backend(device) if name == "auto" else name for name in backends))


def latency(
    cases: Sequence[NetworkCase], device: torch.device, rule: Rule, report: Callable[[str], object]
) -> dict[str, Any]:
    """Measure networks, as `measure` says.

    Returns:
        A document: environment, rule, and a row per case, with what `complexity.costs` tells of one picture;
        the paper's figures are of one picture in fp32.
    """
    with tuned():
        facts = environment(device)
    rows = measure(cases, device, rule, report)
    report("counting")
    counted = {facts: costs(*facts) for facts in {(case.model, case.scale, case.input) for case in cases}}
    for case, row in zip(cases, rows, strict=True):
        row |= counted[case.model, case.scale, case.input]
        if case.batch > 1 or case.precision != "fp32":
            row["paper"] = None
    return document("latency", rows, environment=facts, warmup=rule.warmup, runs=rule.runs)
