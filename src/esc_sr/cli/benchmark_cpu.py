"""`esc-sr benchmark cpu`: engines and precisions side by side."""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from esc_sr.benchmark import cpu as engines
from esc_sr.benchmark import networks
from esc_sr.benchmark.measure import Rule
from esc_sr.cli.options import OneModel, Threads
from esc_sr.cli.output import AsJson
from esc_sr.cli.tables import empty_table, status, tell
from esc_sr.figure import check_target

_COLUMNS = "engine precision CPU,s less wall,s less MiB largest,difference PSNR,dB".split()


def cpu(
    model: OneModel = "esc-light",
    scale: Annotated[int, typer.Option("-s", "--scale", min=1, help="Enlargement.")] = 4,
    output_size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the enlarged picture.")] = "1280x720",
    engine: Annotated[
        list[str] | None,
        typer.Option(metavar="torch|native|openvino|onnx", help="By default all; may be repeated."),
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(metavar="fp32|bf16", help="By default both; may be repeated.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each.")] = 5,
    threads: Threads = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Plot to write: .png, .svg.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare all engines and precisions on this CPU, in turns, with the network's naive mode.

    CPU seconds are of all threads together. The differences are from the naive mode, on a picture made of
    noise in all octaves. The network alone is measured, from tensor to tensor.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if output is not None:
        check_target(output)
    sides = networks.input_for(networks.parse_sides(output_size), scale)
    cases, left_out = engines.select(model, scale, sides, engine or [], precision or [])
    with status() as report:
        found = engines.cpu(cases, Rule(1, runs), report)
    shown = empty_table(*(name.replace(",", " ") for name in _COLUMNS))
    for row in found["rows"]:
        shown.add_row(*_cells(row))
    facts = found["environment"]
    notes = [
        f"{model} x{scale}, {sides[1]}x{sides[0]} to {output_size}; less: than naive takes",
        f"{facts['device_name']}, torch {facts['torch']}, kernels {facts['native']}, "
        f"load {facts['load_before']} before the start",
        f"medians of {runs} runs in turns; MiB: growth of the resident set above network and input",
        *(f"left out: {why}" for why in left_out),
        *(
            f"{row['engine']} {row['precision']}: cannot run: {row['problem']}"
            for row in found["rows"]
            if row["problem"]
        ),
    ]
    if output is not None:
        engines.plot(found["rows"], output)
    tell(found, shown, notes, as_json)


def _cells(row: dict[str, Any]) -> list[str]:
    """The cells of `_COLUMNS`."""
    how = [row["engine"], row["precision"]]
    if row["problem"] is not None:
        return [*how, "cannot run", *["-"] * 6]
    seconds = (
        f"{row['cpu_median_ms'] / 1e3:.2f}",
        engines.show_ratio(row["less_cpu"]),
        f"{row['median_ms'] / 1e3:.2f}",
        engines.show_ratio(row["less_wall"]),
    )
    memory = "-" if row.get("memory_mib") is None else f"{row['memory_mib']:.0f}"
    difference = "-" if row["max_difference"] is None else f"{row['max_difference']:.1e}"
    psnr = "-" if row["psnr_to_reference"] is None else f"{row['psnr_to_reference']:.1f}"
    return [*how, *seconds, memory, difference, psnr]
