"""`esc-sr benchmark`: what the networks cost, as tables for people and JSON documents for machines."""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from esc_sr import record
from esc_sr.benchmark import attention as attentions
from esc_sr.benchmark import complexity as counts
from esc_sr.benchmark import latency as latencies
from esc_sr.benchmark import networks
from esc_sr.benchmark import plot as plots
from esc_sr.benchmark import training as trainings
from esc_sr.benchmark.measure import Rule
from esc_sr.cli.benchmark_cpu import cpu
from esc_sr.cli.options import Device, Threads
from esc_sr.cli.output import AsJson
from esc_sr.cli.tables import empty_table, status, tell
from esc_sr.errors import UsageError
from esc_sr.machine.device import pick_device

app = typer.Typer(no_args_is_help=True)

Models = Annotated[
    list[str] | None,
    typer.Option("-n", "--model", help="Network, for example esc-light or esc-ws16; may be repeated."),
]
Scales = Annotated[list[int] | None, typer.Option("-s", "--scale", help="Enlargement; may be repeated.")]
Backends = Annotated[
    list[str] | None,
    typer.Option(
        "--backend", metavar="auto|naive|sdpa|flex|native", help="Of self-attention; may be repeated."
    ),
]
Precision = Annotated[
    str, typer.Option(metavar="fp32|bf16|fp16", help="Of the arithmetic, as in esc-sr upscale.")
]
Runs = Annotated[
    int | None, typer.Option(min=1, help="Timed runs per case; by default 100 on CUDA and 5 elsewhere.")
]


app.command()(cpu)


@app.callback()
def main() -> None:
    """Measure what the networks cost (Tables 1 to 3, Figure 1)."""


@app.command()
def complexity(
    model: Models = None,
    scale: Scales = None,
    output_size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the enlarged picture.")] = "1280x720",
    table: Annotated[
        int, typer.Option(min=2, max=3, help="2: the published networks; 3: the paper's ablations.")
    ] = 2,
    as_json: AsJson = False,
) -> None:
    """Count parameters and MACs, without computing a pixel; the paper calls MACs FLOPs.

    Without options: every network at x2, x3 and x4.
    """
    output = networks.parse_sides(output_size)
    with status() as report:
        report("counting")
        if table == 3:
            if model or scale:
                raise UsageError("--table 3 has its own networks, all x2; leave out -n and -s")
            rows = list(counts.ablations(output))
        else:
            chosen = networks.select(model or networks.published(), scale or (2, 3, 4))
            rows = list(counts.complexity(chosen, output))
    shown = empty_table("network", "scale", "input", "K params", "paper", "G MACs", "paper", *_PARTS)
    for row in rows:
        shown.add_row(*_count_cells(row))
    notes = [f"for an output of {output_size}; params: parameters; the paper's FLOPs are MACs"]
    notes += filter(None, map(_difference, rows))
    facts = {"environment": record.environment(torch.device("cpu"))}
    tell(record.document("complexity", rows, **facts), shown, notes, as_json)


@app.command()
def latency(
    model: Models = None,
    scale: Scales = None,
    input: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of the LR picture.")] = None,
    output_size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of the enlarged picture; on CUDA 1280x720 by default.")
    ] = None,
    backend: Backends = None,
    precision: Precision = "fp32",
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 1,
    device: Device = "auto",
    runs: Runs = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Time networks in turns, and measure their peak memory.

    Without options: on CUDA what the paper measures, elsewhere three small cases that take a minute or two.
    """
    if input and output_size:
        raise UsageError("--input and --output-size exclude each other")
    where = _begin(backend or [], precision, device, threads)
    on_gpu = where.type == "cuda"
    if not (input or output_size):
        input, output_size = (None, "1280x720") if on_gpu else ("64x64", None)
    cases = [
        latencies.NetworkCase(
            name,
            factor,
            networks.parse_sides(input)
            if input
            else networks.input_for(networks.parse_sides(output_size or ""), factor),
            batch,
            way,
            precision,
        )
        for name, factor in networks.select(
            model or ("esc", "esc-light", "esc-fp"), scale or ((2, 3, 4) if on_gpu else (4,))
        )
        for way in latencies.resolve(backend or ["auto"], where)
    ]
    with status() as report:
        found = latencies.latency(cases, where, Rule.of(where, runs), report)
    shown = empty_table("network", "scale", "input", *_COSTS, "K params", "G MACs", *_PRINTED)
    for row in found["rows"]:
        name = (row["model"], f"x{row['scale']}", "x".join(map(str, row["input"])))
        shown.add_row(*name, *_costs(row), *_counts(row), *_printed(row))
    notes = [f"{precision}, batch {batch}; the network alone, from tensor to tensor"]
    if any(row["paper"] for row in found["rows"]):
        notes.append("paper: Table 2's ms, MiB, K parameters and G FLOPs, which are MACs, on an RTX 4090")
    notes += dict.fromkeys(filter(None, map(_difference, found["rows"])))
    _finish(found, shown, notes, as_json)


@app.command()
def attention(
    window: Annotated[
        list[int] | None, typer.Option(min=1, help="Side of the window, px; may be repeated.")
    ] = None,
    side: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Side of the features, px; may be repeated. 64 and 288 on CUDA, else 64."),
    ] = None,
    backend: Backends = None,
    precision: Precision = "fp32",
    device: Device = "auto",
    runs: Runs = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Compare the backends of self-attention, as Table 1: naive, sdpa, and flex on CUDA or native on a CPU.

    Measured is the whole layer, with the 1x1 convolutions before and after.
    """
    where = _begin(backend or [], precision, device, threads)
    on_gpu = where.type == "cuda"
    ways = _compared(backend, where)
    cases = [
        attentions.AttentionCase(w, s, way, precision)
        for s in side or (attentions.SIDES if on_gpu else attentions.SIDES[:1])
        for w in window or attentions.WINDOWS
        for way in ways
    ]
    with status() as report:
        found = attentions.attention(cases, where, Rule.of(where, runs), report)
    shown = empty_table("window", "features", *_COSTS, "less time", "less memory", "paper ms", "paper MiB")
    for row in found["rows"]:
        size, padded = (f"{n}x{n}" for n in (row["side"], row["padded"]))
        printed = row["paper"] or {"latency_ms": "-", "memory_mib": "-"}
        shown.add_row(
            str(row["window"]),
            size if size == padded else f"{size} as {padded}",
            *_costs(row),
            *(f"{ratio:.1f}x" if ratio else "-" for ratio in (row["latency_ratio"], row["memory_ratio"])),
            *map(str, printed.values()),
        )
    notes = [
        f"{precision}, 64 channels, reflected up to whole windows (64x64 as 72x72 with windows of 24)",
        "the whole layer, with the 1x1 convolutions before and after; less: than naive needs",
    ]
    _finish(found, shown, notes, as_json)


@app.command()
def training(
    model: Models = None,
    scale: Scales = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Crops per step; may be repeated. 64 on CUDA, else 2.")
    ] = None,
    patch: Annotated[
        int | None, typer.Option(min=1, help="Side of an LR crop, px; 64 on CUDA, else 32.")
    ] = None,
    backend: Backends = None,
    precision: Precision = "fp32",
    device: Device = "auto",
    runs: Runs = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Time training steps in turns, and measure their peak memory, by backend as in attention.

    Without options: a step of esc-light x2.
    """
    where = _begin(backend or [], precision, device, threads)
    on_gpu = where.type == "cuda"
    ways = _compared(backend, where)
    cases = [
        trainings.TrainingCase(name, factor, crops, patch or (64 if on_gpu else 32), way, precision)
        for name, factor in networks.select(model or ("esc-light",), scale or (2,))
        for crops in batch or ((64,) if on_gpu else (2,))
        for way in ways
    ]
    with status() as report:
        found = trainings.training(cases, where, Rule.of(where, runs), report)
    shown = empty_table("network", "scale", "batch", "patch", *_COSTS, "it/s", "LR px/s", "faster")
    for row in found["rows"]:
        shown.add_row(
            row["model"],
            f"x{row['scale']}",
            str(row["batch"]),
            str(row["patch"]),
            *_costs(row),
            f"{row['it_per_s']:.3g}" if row["it_per_s"] else "-",
            f"{row['px_per_s']:,.0f}" if row["px_per_s"] else "-",
            f"{row['speedup']:.1f}x" if row["speedup"] else "-",
        )
    note = f"{precision}; forward, backward, optimizer and averaged weights; faster: than naive"
    _finish(found, shown, [note], as_json)


@app.command()
def plot(
    output: Annotated[Path, typer.Option("-o", "--output", help="Picture to write: .png, .svg, .pdf.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]", help="JSON of esc-sr benchmark latency, and of esc-sr evaluate."),
    ] = None,
    test_set: Annotated[str, typer.Option("--set", help="Test set of the PSNR.")] = "Urban100",
    printed: Annotated[
        list[int] | None,
        typer.Option(
            "--paper",
            metavar="SCALE",
            help="Draw all of Table 2 as well; 4 is Figure 1. May be repeated.",
        ),
    ] = None,
) -> None:
    """Plot PSNR against latency, with bubbles for memory, as Figure 1."""
    if not (files or printed):
        raise UsageError("nothing to plot: pass FILE, --paper 4, or both")
    for point in plots.plot(files or [], output, test_set, printed or ()):
        source = "measured" if point.measured else "of the paper"
        print(f"{point.label}: {point.latency_ms:.1f} ms, {point.psnr:.2f} dB {source}")
    print(f"written: {output}")


_PARTS = ("conv", "attention", "linear", "norm", "other")
_COSTS = ("attention", "median ms", "quartiles ms", "MiB", "reserved")


_PRINTED = ("paper ms", "paper MiB", "paper K", "paper G")


def _counts(row: dict[str, Any]) -> tuple[str, str]:
    """Parameters and MACs."""
    return f"{row['parameters'] / 1e3:.3f}", f"{row['macs'] / 1e9:.1f}"


def _printed(row: dict[str, Any]) -> list[str]:
    """The cells of `_PRINTED`."""
    figures = row["paper"] or {}
    return [f"{figures[key]:g}" if key in figures else "-" for key in _FIGURES]


_FIGURES = ("latency_ms", "memory_mib", "kparams", "gmacs")


def _difference(row: dict[str, Any]) -> str | None:
    """Where counts differ from the paper's: what both have, and what is known of it."""
    printed = row["paper"]
    if printed is None or printed["agrees"]:
        return None
    counted = {"kparams": round(row["parameters"] / 1e3, 1), "gmacs": round(row["macs"] / 1e9, 1)}
    units = {"kparams": "K parameters", "gmacs": "G MACs"}
    differ = (
        f"{units[key]}: paper {printed[key]:g}, measured {value:.1f}"
        for key, value in counted.items()
        if round(value, 0 if key == "kparams" else 1) != printed[key]
    )
    remark = f" ({printed['remark']})" if "remark" in printed else ""
    return f"{row['model']} x{row['scale']}, {'; '.join(differ)}{remark}"


def _count_cells(row: dict[str, Any]) -> list[str]:
    """The cells of a row of counts; beside ours what the paper has."""
    name = f"{row['preset']} ({row['model']})" if "preset" in row else row["model"]
    cells = [name, f"x{row['scale']}", "x".join(map(str, row["input"]))]
    *_, kparams, gmacs = _printed(row)
    ours = _counts(row)
    parts = {
        **row["parts"],
        "other": sum(row["parts"][part] for part in ("pooling", "resampling", "scan")),
    }
    shown = (f"{parts[part] / 1e9:.2f}" if parts[part] else "-" for part in _PARTS)
    return [*cells, ours[0], kparams, ours[1], gmacs, *shown]


def _costs(row: dict[str, Any]) -> list[str]:
    """The cells of `_COSTS`."""
    if row["problem"] is not None:
        return [row["backend"], "cannot run", "-", "-", "-"]
    lower, upper = row["quartiles_ms"]
    memory = (f"{row[key]:.0f}" if row[key] is not None else "-" for key in ("memory_mib", "reserved_mib"))
    return [row["backend"], f"{row['median_ms']:.2f}", f"{lower:.2f}-{upper:.2f}", *memory]


def _compared(backends: list[str] | None, device: torch.device) -> list[str]:
    """The backends to set side by side: those wished for, or all that are worth it there."""
    return latencies.resolve(
        backends or ["naive", "sdpa", "flex" if device.type == "cuda" else "auto"], device
    )


def _begin(backends: list[str], precision: str, device: str, threads: int | None) -> torch.device:
    """Refuse what cannot work before anything is measured; find the device."""
    latencies.check(backends, precision)
    if threads is not None:
        torch.set_num_threads(threads)
    return pick_device(device)


def _finish(found: dict[str, Any], shown: Table, notes: list[str], as_json: bool) -> None:
    """Tell what was measured, what could not run, and on what and how the rest was measured."""
    for row in found["rows"]:
        if row["problem"] is not None:
            what = f"{row['model']} x{row['scale']}" if "model" in row else f"window {row['window']}"
            notes.append(f"{what}, {row['backend']}: cannot run: {row['problem']}")
    facts = found["environment"]
    machine = [facts["device_name"], f"torch {facts['torch']}", f"{facts['threads']} threads"]
    if facts["device"].startswith("cuda"):
        flags = ("tf32_matmul", "tf32_cudnn", "cudnn_benchmark")
        machine += [f"{flag} {'on' if facts[flag] else 'off'}" for flag in flags]
        memory = "MiB: allocated at most, weights and input included"
    else:
        machine.append(f"load {facts['load_before']} before the start")
        memory = "MiB: growth of the resident set above network and input"
    notes.append(", ".join(machine))
    notes.append(
        f"{found['warmup']} runs to warm up, then {found['runs']} timed, all cases in turns; {memory}"
    )
    tell(found, shown, notes, as_json)
    rounds = min((len(row["times_ms"]) for row in found["rows"] if "times_ms" in row), default=found["runs"])
    if rounds < found["runs"]:
        typer.echo(f"esc-sr: interrupted; {rounds} of {found['runs']} runs were timed", err=True)
        raise typer.Exit(130)
