"""Self-attention alone, on each backend (Table 1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from esc_sr import paper
from esc_sr.benchmark.measure import Record, Rule, measure, tuned
from esc_sr.families.esc.blocks import WindowAttention
from esc_sr.machine.precision import autocast
from esc_sr.record import document, environment

WINDOWS = (16, 24, 32)
SIDES = (64, 288)
"""Sides of the features, 64 channels each, in Table 1."""


@dataclass(frozen=True)
class AttentionCase:
    """The self-attention of ESC, whole: features to features, with the 1x1 convolutions before and after.

    The paper does not say whether these are timed; its 223 MB for 20 MiB of features hold them.

    Attributes:
        window: Side of the window in pixels.
        side: Side of the features in pixels; reflected up to whole windows.
        backend: How attention is computed.
        precision: As of `NetworkCase`.
    """

    window: int
    side: int
    backend: str
    precision: str = "fp32"

    def facts(self) -> Record:
        """What it is, for the record; `padded` is the side that is computed."""
        padded = -(-self.side // self.window) * self.window
        return {
            "window": self.window,
            "side": self.side,
            "padded": padded,
            "backend": self.backend,
            "precision": self.precision,
        }

    def small(self) -> "AttentionCase":
        """The same on four windows."""
        return replace(self, side=2 * self.window)

    def prepare(self, device: torch.device) -> Callable[[], object]:
        """Build the layer and its input (1, 64, side, side)."""
        torch.manual_seed(0)
        layer = WindowAttention(64, self.window, heads=4).eval().to(device)
        layer.backend = self.backend
        features = torch.rand(1, 64, self.side, self.side).to(device)

        def run() -> object:
            with autocast(device, self.precision):
                return layer(features)

        return run


def attention(
    cases: Sequence[AttentionCase], device: torch.device, rule: Rule, report: Callable[[str], object]
) -> dict[str, Any]:
    """Measure self-attention, as `measure` says, and compare backends.

    Returns:
        A document: environment, rule, and a row per case with latency_ratio and memory_ratio (the naive
        backend's over this one's, None where either is missing) and paper (latency_ms and memory_mib; its
        flash attention stands beside sdpa and flex).
    """
    with tuned():
        facts = environment(device)
    rows = measure(cases, device, rule, report)
    for row in rows:
        naive = next((r for r in rows if r["backend"] == "naive" and _shape(r) == _shape(row)), {})
        row["latency_ratio"] = _ratio(naive.get("median_ms"), row["median_ms"])
        row["memory_ratio"] = _ratio(naive.get("memory_mib"), row["memory_mib"])
        row["paper"] = _printed(row)
    return document("attention", rows, environment=facts, warmup=rule.warmup, runs=rule.runs)


def _shape(row: Record) -> tuple[int, int]:
    """Sides of the window and of the features, which rows that are compared have in common."""
    return row["window"], row["side"]


def _ratio(naive: float | None, own: float | None) -> float | None:
    """How many times less than naive; None where either was not measured."""
    return naive / own if naive and own else None


def _printed(row: Record) -> Record | None:
    """What Table 1 has for a row; its flash attention stands beside all backends but naive."""
    wanted = (*_shape(row), row["backend"] != "naive")
    found = next((cost for cost in paper.ATTENTION if cost[:3] == wanted), None)
    return {"latency_ms": found.latency_ms, "memory_mib": found.memory_mib} if found else None
