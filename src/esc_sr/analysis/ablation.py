"""Table 3 on a small budget: each variant trained alike, measured, and set beside what the paper has."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from esc_sr import paper
from esc_sr.benchmark.complexity import count_network
from esc_sr.benchmark.networks import OUTPUT, blank, input_for
from esc_sr.data.sets import BenchmarkSet
from esc_sr.errors import UsageError
from esc_sr.evaluate.run import ScoreRow, find_method, run
from esc_sr.figure import new_figure
from esc_sr.train import checkpoint
from esc_sr.train.feed import Data
from esc_sr.train.monitor import RunOptions
from esc_sr.train.recipes import Classic
from esc_sr.train.run import Model, Start
from esc_sr.train.run import run as train
from esc_sr.train.schedule import Budget
from esc_sr.train.setup import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCALE = 2
TABLE = 3


def variants() -> list[str]:
    """The networks of Table 3, in its order; ESC is the last."""
    names = {method: name for name, method in paper.METHODS.items()}
    return [names[row.method] for row in paper.rows(TABLE)]


class Trained(NamedTuple):
    """A variant that was trained.

    Attributes:
        name: That of its preset.
        weights: File of the averaged ones.
        iterations: Steps that it took.
        minutes: Time that these took.
    """

    name: str
    weights: Path
    iterations: int
    minutes: float


def trained(
    names: Sequence[str],
    data: Data,
    out: Path,
    budget: Budget,
    *,
    recipe: Classic = Classic(),
    options: RunOptions = RunOptions(),
    begin: Callable[[str, bool], None] = lambda name, needed: None,
    report: Report = lambda record: None,
) -> Iterator[Trained]:
    """Train variants one after the other, by one recipe and for one budget, each in a folder of `out`.

    One whose run has reached the end of the budget is taken as it is, one that was stopped goes on.

    Args:
        names: Some of `variants`.
        data: What they see.
        out: Folder of the runs, made if missing.
        budget: Of each.
        recipe: Of all.
        options: Of all.
        begin: Told each variant's name, and whether there is anything left to train.
        report: As of `train.run.run`.

    Yields:
        Each variant when it is trained; it ends early where a run is stopped, which is saved.

    Raises:
        UsageError: No such variant, or its folder holds a run of another recipe; and as of `train.run.run`.
    """
    unknown = [name for name in names if name not in variants()]
    if unknown:
        raise UsageError(f"{unknown[0]} is no network of Table 3; there are {', '.join(variants())}")
    for name in names:
        folder = out / name
        there = checkpoint.is_there(folder)
        done = _is_done(folder, recipe, budget) if there else False
        begin(name, not done)
        if not done:
            start, model = Start(resume=there), Model(name, SCALE)
            if not train(
                recipe, model, data, folder, budget=budget, start=start, options=options, report=report
            ):
                return
        content = checkpoint.load(folder)
        yield Trained(name, folder / "ema.safetensors", content["iteration"], content["elapsed"] / 60)


def _is_done(folder: Path, recipe: Classic, budget: Budget) -> bool:
    """Whether the run in a folder, which must be of the recipe, has reached the end of the budget."""
    content = checkpoint.load(folder)
    had, wanted = asdict(checkpoint.recipe_of(content, recipe)), asdict(recipe)
    differ = [key for key in wanted if key != "accumulate" and had[key] != wanted[key]]
    if differ:
        told = ", ".join(f"{key}={had[key]}" for key in differ)
        raise UsageError(f"{folder}: was trained with {told}; keep that, or give another folder")
    ended = Budget(**content["budget"]).progress(content["iteration"], content["elapsed"]) >= 1
    enough = budget.progress(content["iteration"], content["elapsed"]) >= 1
    return ended and enough


def measure(
    variant: Trained,
    sets: Sequence[BenchmarkSet],
    *,
    device: str | torch.device = "cpu",
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Measure a variant as `esc-sr evaluate` does.

    Returns:
        A row of the table: its name, the paper's name, steps and minutes of training, parameters, MACs of an
        HD picture, PSNR and SSIM on each set, and under "paper" what is printed of all that.
    """
    rows: list[ScoreRow] = []
    method = find_method(str(variant.weights), SCALE, device)._replace(name=variant.name, preset=variant.name)
    for pictures in sets:
        run([method], pictures, rows, table=TABLE, progress=progress)
    found = count_network(blank(variant.name, SCALE), input_for(OUTPUT, SCALE), SCALE)
    printed = paper.row(TABLE, variant.name, SCALE)
    assert printed is not None, "variants are those of the table"
    told = {row.set: row.paper() for row in rows}
    return {
        "variant": variant.name,
        "case": printed.method,
        "iterations": variant.iterations,
        "minutes": variant.minutes,
        "parameters": found.parameters,
        "macs": found.macs,
        "scores": {row.set: {"psnr": row.mean("psnr"), "ssim": row.mean("ssim")} for row in rows},
        "failed": {row.set: row.failed for row in rows if row.failed},
        "paper": {
            "kparams": printed.kparams,
            "gmacs": printed.gmacs,
            "scores": {name: {"psnr": each[0], "ssim": each[1]} for name, each in told.items() if each},
        },
    }


def differences(rows: Sequence[Mapping[str, Any]], name: str, of: str = "esc") -> dict[str, float]:
    """PSNR of each variant on a set less that of ESC, dB; of those that have one, if ESC has."""
    psnr = {row["variant"]: row["scores"].get(name, {}).get("psnr") for row in rows}
    least = psnr.get(of)
    return {} if least is None else {key: each - least for key, each in psnr.items() if each is not None}


def draw(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw for each set how far variants are from ESC in PSNR, here and in the paper."""
    names = [*dict.fromkeys(name for row in rows for name in row["scores"])]
    printed = [{**row, "scores": row["paper"]["scores"]} for row in rows]
    figure = new_figure(2.2 + 3 * len(names), 0.35 * len(rows) + 1.4)
    axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    places = {row["variant"]: place for place, row in enumerate(rows)}
    for one, name in zip(axes, names, strict=True):
        for label, source, shape in (("here", rows, "o"), ("paper", printed, "x")):
            found = differences(source, name)
            one.scatter([*found.values()], [places[key] for key in found], marker=shape, label=label)
        one.axvline(0, color="grey", linewidth=0.8)
        one.set_title(name, fontsize="medium")
        one.set_xlabel("PSNR less that of ESC, dB")
        one.grid(alpha=0.3)
    axes[0].set_yticks(range(len(rows)), [row["case"] for row in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    axes[-1].legend(fontsize="small")
    steps = {row["iterations"] for row in rows}
    figure.suptitle(f"Table 3 after {' to '.join(f'{n:,}' for n in sorted({min(steps), max(steps)}))} steps")
    return figure
