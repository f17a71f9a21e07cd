"""What computes a network on a CPU: all engines and precisions, beside the published network's naive mode."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esc_sr import native, weights
from esc_sr.benchmark.measure import Record, Rule, measure
from esc_sr.bicubic import resize
from esc_sr.engines import ENGINES, check_engine, load
from esc_sr.errors import EscError, UsageError
from esc_sr.figure import check_target, new_figure, save_figure
from esc_sr.machine.precision import autocast
from esc_sr.record import document, environment
from esc_sr.upscaling.runner import Sides

CPU = torch.device("cpu")

REFERENCE = "naive"
"""The network layer after layer on the whole picture, with all scores of self-attention written out."""

DEFAULTS = [
    *((engine, "fp32") for engine in ENGINES if engine != "auto"),
    *((engine, "bf16") for engine in ("torch", "native", "openvino")),
]
"""Engines and precisions that are measured unless others are asked for."""


@dataclass(frozen=True)
class EngineCase:
    """A network with its weights on a smooth picture.

    Attributes:
        model: A bundled name, or a file.
        scale: Enlargement.
        input: Height and width of the LR picture.
        engine: One of `engines.ENGINES`, or `REFERENCE`.
        precision: As of `esc-sr upscale`.
    """

    model: str
    scale: int
    input: Sides
    engine: str = REFERENCE
    precision: str = "fp32"

    def facts(self) -> dict[str, Any]:
        """What it is, for the record, which has the width first."""
        height, width = self.input
        return {
            "model": self.model,
            "scale": self.scale,
            "input": (width, height),
            "output": (width * self.scale, height * self.scale),
            "engine": self.engine,
            "precision": self.precision,
            "level": native.level() if self.engine in ("auto", "native") else None,
        }

    def small(self) -> "EngineCase":
        """The same on two windows."""
        return replace(self, input=(32, 64))

    def prepare(self, device: torch.device) -> Callable[[], Tensor]:
        """Load the network and make its picture; running gives the enlarged one."""
        lr = picture_of(self.input)
        if self.engine == REFERENCE:
            network = weights.load(self.model, device, scale=self.scale)
            if network.attention is not None:
                network.attention = "naive"
            for layer in network.children():
                layer.register_forward_hook(lambda *_: None)  # with a hook, layers run one after another
        else:
            engine, precision = self.engine, self.precision
            network = load(self.model, device, scale=self.scale, engine=engine, precision=precision)

        def run() -> Tensor:
            with torch.inference_mode(), autocast(device, self.precision):
                if self.engine != REFERENCE:
                    return network.enlarge(lr, self.scale).float()
                with native.without():
                    return network.enlarge(lr, self.scale).float()

        return run


def picture_of(sides: Sides) -> Tensor:
    """A picture (1, 3, height, width) in 0..1 with as much contrast in each octave, the same each time."""
    random = torch.Generator().manual_seed(0)
    total = torch.zeros(1, 3, *sides)
    for step in (1, 2, 4, 8, 16, 32, 64):
        octave = torch.rand(1, 3, *(-(-side // step) + 1 for side in sides), generator=random)
        total += resize(octave, sides)
    return ((total - total.mean()) / (4 * total.std()) + 0.5).clamp(0, 1)


def select(
    model: str, scale: int, sides: Sides, engines: Iterable[str], precisions: Iterable[str]
) -> tuple[list[EngineCase], list[str]]:
    """The reference, and the engines and precisions that are wished for, or all that there are.

    Returns:
        The cases, and why others are left out.

    Raises:
        UsageError, DeviceError: One that is wished for is not here.
    """
    engines, precisions = [*engines], [*precisions]
    ways = [
        (engine, precision)
        for precision in precisions or ("fp32", "bf16")
        for engine in engines or ENGINES
        if (engine, precision) in DEFAULTS or engine in engines
    ]
    cases, left_out = [EngineCase(model, scale, sides)], []
    for engine, precision in ways:
        try:
            check_engine(engine, precision)
        except EscError as error:
            if engine in engines and (precision in precisions or precision == "fp32"):
                raise
            left_out.append(f"{engine}, {precision}: {error}")
        else:
            cases.append(EngineCase(model, scale, sides, engine, precision))
    return cases, left_out


def cpu(cases: Sequence[EngineCase], rule: Rule, report: Callable[[str], object]) -> dict[str, Any]:
    """Measure engines, as `measure` says.

    Args:
        cases: The reference first.
        rule: How often.
        report: Is told what is being done.

    Returns:
        A document: environment, rule, and a row per case; with the largest difference from the reference and
        the PSNR to it, of colours in 0..1, and how many times less CPU and wall time it takes than that.
    """
    facts = environment(CPU)
    differences = _differences(cases, report)
    rows = measure(cases, CPU, rule, report)
    for row, difference in zip(rows, differences, strict=True):
        row |= difference
        for name, key in (("less_cpu", "cpu_median_ms"), ("less_wall", "median_ms")):
            before, now = rows[0].get(key), row.get(key)
            row[name] = before / now if before and now else None
    return document("cpu", rows, environment=facts, warmup=rule.warmup, runs=rule.runs)


def _differences(cases: Sequence[EngineCase], report: Callable[[str], object]) -> list[Record]:
    """The largest difference from the first case, and the PSNR to it in dB; graphs are made on the way."""
    wanted: Tensor | None = None
    found: list[Record] = []
    for number, case in enumerate(cases, 1):
        report(f"differences {number}/{len(cases)}")
        record: Record = {"max_difference": None, "psnr_to_reference": None}
        try:
            result = case.prepare(CPU)().clamp(0, 1)
        except Exception as error:  # whatever an engine raises, measuring it will tell
            report(str(error))
        else:
            wanted = result if wanted is None else wanted
            difference = result - wanted
            record["max_difference"] = float(difference.abs().max())
            if mean := float(difference.double().square().mean()):
                record["psnr_to_reference"] = -10 * torch.tensor(mean).log10().item()
        found.append(record)
    return found


def show_ratio(ratio: float | None) -> str:
    """How many times less than the reference a row takes, "-" where that was not timed."""
    return "-" if ratio is None else f"{ratio:.1f}x"


def plot(rows: Sequence[Record], target: Path) -> None:
    """Draw CPU seconds of each row as bars.

    Raises:
        UsageError: matplotlib is missing, the file cannot be written, or no row was timed.
    """
    check_target(target)
    timed = [row for row in rows if row.get("cpu_median_ms")]
    if not timed:
        raise UsageError(f"{target}: nothing to draw, since nothing was timed")
    figure = new_figure(7, 0.4 * len(timed) + 1.2)
    axes = figure.subplots()
    names = [f"{row['engine']} {row['precision']}" for row in timed]
    seconds = [row["cpu_median_ms"] / 1e3 for row in timed]
    bars = axes.barh(names, seconds, color=["C0" if row["precision"] == "fp32" else "C1" for row in timed])
    axes.bar_label(bars, [show_ratio(row["less_cpu"]) for row in timed], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    first = timed[0]
    size = "x".join(map(str, first["output"]))
    axes.set_xlabel(f"CPU seconds, {first['model']} x{first['scale']} to {size}")
    save_figure(figure, target)
