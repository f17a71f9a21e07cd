"""`esc-sr analyze ablation`: Table 3 on a small budget."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from esc_sr import families, weights
from esc_sr.analysis import ablation as ablations
from esc_sr.analysis.store import Arrays, key_of
from esc_sr.cli.analyze.work import FigureFile, Work, analysis
from esc_sr.cli.options import Device, Threads
from esc_sr.cli.output import AsJson
from esc_sr.cli.report import counter
from esc_sr.cli.train import show
from esc_sr.data.sets import BenchmarkSet, find_set
from esc_sr.errors import UsageError
from esc_sr.train.feed import Data
from esc_sr.train.monitor import RunOptions
from esc_sr.train.recipes import Classic, override
from esc_sr.train.schedule import Budget


def ablation(
    data: Annotated[
        list[Path], typer.Option(help="Folder or .tar shard of HR pictures to train on; may be repeated.")
    ],
    benchmark: Annotated[
        list[Path], typer.Option(help="Folder of a benchmark set, such as Set5; may be repeated.")
    ],
    runs: Annotated[Path, typer.Option(help="Folder of the runs, one for each variant.")],
    output: FigureFile = Path("ablation.png"),
    variant: Annotated[
        list[str] | None, typer.Option(help="Network of Table 3, such as esc-lk9; all nine by default.")
    ] = None,
    iterations: Annotated[int | None, typer.Option(help="Length of each run in steps.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Length of each run in time.")] = None,
    small: Annotated[
        bool, typer.Option("--small", help="Values for one or two CPU cores, as of esc-sr train.")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the recipe; may be repeated.")
    ] = None,
    val: Annotated[Path | None, typer.Option(help="Folder or .tar shard of held-out HR pictures.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train the networks of Table 3 for a small budget each, x2, and set them beside the paper's.

    Those in --runs that have been trained are taken as they are; after Ctrl-C the same command goes on.
    """
    if iterations is None and minutes is None:
        raise UsageError(
            "give the length of each run, as --iterations or --minutes; the paper's is 500000 steps"
        )
    budget = Budget(iterations, minutes)
    window = families.blank(families.preset("esc", ablations.SCALE)).window
    recipe = override(Classic().small(window) if small else Classic(), settings or [])
    names = variant or ablations.variants()
    with analysis("ablation", output, as_json, threads, device) as work:
        sets = [find_set(folder, ablations.SCALE) for folder in benchmark]
        rows: list[dict[str, Any]] = []
        runs_of = ablations.trained(
            names,
            Data(data, val=val),
            runs,
            budget,
            recipe=recipe,
            options=RunOptions(device=str(work.device)),
            begin=lambda name, needed: print(
                f"{name}: {'training' if needed else 'trained already'}", flush=True
            ),
            report=show,
        )
        for one in runs_of:
            rows.append(_measured(one, sets, work))
        if rows:
            _print(rows, [pictures.name for pictures in sets])
            facts = {"recipe": asdict(recipe), "budget": {"iterations": iterations, "minutes": minutes}}
            work.finish(ablations.draw(rows), rows, **facts)
        if len(rows) < len(names):
            typer.echo(f"esc-sr: stopped and saved in {runs}; the same command goes on", err=True)
            raise typer.Exit(130)


def _measured(one: ablations.Trained, sets: list[BenchmarkSet], work: Work) -> dict[str, Any]:
    """The row of a variant, measured now or before."""

    def compute() -> Arrays:
        show = counter(f"{one.name}, pictures measured")
        total = sum(len(pictures.items) for pictures in sets)
        begun = iter(range(total))
        row = ablations.measure(one, sets, device=work.device, progress=lambda name: show(next(begun), total))
        return {"row": np.array(json.dumps(row))}

    samples = (pictures.load(item) for pictures in sets for item in pictures.items)
    pixels = [part for sample in samples for part in (sample.lr, sample.hr) if part is not None]
    facts = [one.name, one.iterations, one.minutes, *(pictures.name for pictures in sets)]
    key = key_of("ablation", weights.load(one.weights), facts, *pixels)
    row: dict[str, Any] = json.loads(str(work.store.get(key, compute)["row"]))
    return row


def _print(rows: list[dict[str, Any]], sets: list[str]) -> None:
    """The table, and beside each number of ours the paper's."""
    table = Table("case", "steps", "K params", "paper", "G MACs", "paper")
    for name in sets:
        table.add_column(name)
        table.add_column("paper")
    for row in rows:
        printed = row["paper"]
        cells = [
            row["case"],
            f"{row['iterations']:,}",
            f"{row['parameters'] / 1e3:.0f}",
            f"{printed['kparams']:.0f}",
        ]
        cells += [f"{row['macs'] / 1e9:.1f}", f"{printed['gmacs']:.1f}"]
        for name in sets:
            cells += [_scores(row["scores"].get(name)), _scores(printed["scores"].get(name))]
        table.add_row(*cells)
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


def _scores(found: dict[str, float | None] | None) -> str:
    """PSNR and SSIM as the paper prints them."""
    return f"{found['psnr']:.2f}/{found['ssim']:.4f}" if found and found["psnr"] is not None else "-"
