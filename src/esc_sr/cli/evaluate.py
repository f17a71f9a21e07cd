"""`esc-sr evaluate`: PSNR and SSIM on benchmark sets, beside the paper's."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from esc_sr import record
from esc_sr.cli.compare import NiqeParameters
from esc_sr.cli.options import Cluster, check_device
from esc_sr.cli.output import AsJson, for_people, note, print_json
from esc_sr.cluster.nodes import Wish
from esc_sr.data.sets import BenchmarkSet, find_set, paired_set
from esc_sr.engines import pick_place, warn_of_slowness
from esc_sr.errors import DataError, UsageError
from esc_sr.evaluate.gallery import Gallery
from esc_sr.evaluate.run import Method, ScoreRow, find_methods, run
from esc_sr.niqe import load_niqe


def evaluate(
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Folder of a benchmark set; several, as --data A B or --data A --data B, are measured one "
            "by one, with a row for each, and no mean over them.",
        ),
    ] = None,
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR ...]", help="More sets, as with --data.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("-n", "--model", help="Bundled name, checkpoint file, or bicubic; may be repeated."),
    ] = None,
    scale: Annotated[
        list[int] | None, typer.Option("-s", "--scale", help="HR over LR side; may be repeated.")
    ] = None,
    hr: Annotated[Path | None, typer.Option(help="Folder of HR pictures, with --lr.")] = None,
    lr: Annotated[
        Path | None, typer.Option(help="Folder of LR pictures; without --hr they are judged by NIQE.")
    ] = None,
    padding: Annotated[
        str | None,
        typer.Option(
            metavar="image|features", help="What is reflected out to whole windows; image is the paper's."
        ),
    ] = None,
    channels: Annotated[
        str, typer.Option(metavar="y|rgb", help="y: border = scale; rgb: border = scale + 6.")
    ] = "y",
    grey: Annotated[
        str, typer.Option(metavar="rgb|raw", help="Files stored as grey: through RGB to Y, or as Y.")
    ] = "rgb",
    self_ensemble: Annotated[
        bool, typer.Option("--self-ensemble", help="Mean over 8 flips and rotations.")
    ] = False,
    precision: Annotated[str, typer.Option(metavar="fp32|bf16|fp16", help="Of the arithmetic.")] = "fp32",
    engine: Annotated[
        str, typer.Option(metavar="auto|torch|native|openvino|onnx", help="What computes the networks.")
    ] = "auto",
    niqe_parameters: NiqeParameters = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda[:N]|xpu|mps")] = "auto",
    table: Annotated[
        int | None,
        typer.Option(
            min=2, max=6, help="The paper's table to compare with; by default that of each network."
        ),
    ] = None,
    per_image: Annotated[bool, typer.Option("--per-image", help="A line for each picture as well.")] = False,
    as_json: AsJson = False,
    save: Annotated[
        Path | None, typer.Option(help="Folder for the pictures and, per set, a side-by-side sheet.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    cluster: Cluster = None,
) -> None:
    """Measure networks as the paper does: PSNR and SSIM on Y, or PSNR on RGB; NIQE without ground truth."""
    if threads is not None:
        torch.set_num_threads(threads)
    scales = scale or [2]
    _check_cluster(cluster, device, save)
    place = _place(cluster, device, engine, precision)
    changes = {"channels": channels, "grey": grey, "self_ensemble": self_ensemble, "precision": precision}
    changes |= {"padding": padding} if padding else {}
    names = model or ["esc-light"]
    methods = {factor: find_methods(names, factor, place, engine, note, **changes) for factor in scales}
    if table and (table == 5) != (channels == "rgb"):
        raise UsageError(f"Table {table} is on {'rgb' if table == 5 else 'y'}, and --channels is {channels}")
    natural = load_niqe(niqe_parameters) if niqe_parameters else None
    sets = _find_sets([*(data or []), *(more or [])], hr, lr, scales, save)
    rows: list[ScoreRow] = []
    facts = {
        "command": sys.argv[1:],
        "environment": record.environment(place),
        "engine": engine,
        "niqe_parameters": niqe_parameters and str(niqe_parameters),
    }
    interrupted = False
    with for_people(as_json):
        try:
            with _progress(sum(len(pictures.items) for pictures in sets)) as begin:
                if cluster is not None:
                    there = names, engine, changes, niqe_parameters
                    _on_cluster(cluster, there, Wish(threads, device), methods, sets, rows, table, begin)
                for pictures in sets if cluster is None else ():
                    gallery = Gallery(save, pictures.name, pictures.scale) if save else None
                    show = gallery.add if gallery else lambda sample, results: None
                    run(
                        methods[pictures.scale],
                        pictures,
                        rows,
                        table=table,
                        natural=natural,
                        progress=begin,
                        show=show,
                    )
                    if gallery:
                        gallery.finish()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            _show(rows, per_image)
    if as_json:
        print_json(record.document("evaluate", [row.record() for row in rows], **facts))
    if interrupted:
        raise KeyboardInterrupt
    failed = sum(len(row.failed) for row in rows)
    if failed:
        typer.echo(f"esc-sr: {failed} of {sum(row.total for row in rows)} pictures failed", err=True)
        raise typer.Exit(1)


def _on_cluster(
    cluster: str,
    there: tuple[Sequence[str], str, Mapping[str, Any], Path | None],
    wish: Wish,
    methods: Mapping[int, Sequence[Method]],
    sets: Sequence[BenchmarkSet],
    rows: list[ScoreRow],
    table: int | None,
    begin: Callable[[str], None],
) -> None:
    """Have a cluster measure what `there` names: methods, engine, changes to the protocol, NIQE's model."""
    from esc_sr.cluster.scores import Methods, evaluate
    from esc_sr.cluster.work import known_everywhere

    names, engine, changes, natural = there
    loaded = Methods([*map(known_everywhere, names)], engine, changes, natural and natural.absolute())
    evaluate(loaded, methods, sets, rows, cluster, wish, table=table, progress=begin, note=note)


def _place(cluster: str | None, device: str, engine: str, precision: str) -> torch.device:
    """Where this process computes; with a cluster it only looks at what the nodes compute."""
    if cluster is not None:
        return pick_place("cpu", engine)
    place = pick_place(device, engine)
    warn_of_slowness(place, precision, note)
    return place


def _check_cluster(cluster: str | None, device: str, save: Path | None) -> None:
    """Refuse what a cluster cannot do."""
    if cluster is not None:
        check_device(device)
        if save is not None:
            raise UsageError("--save and --cluster exclude each other; leave out one of the two")


def _find_sets(
    folders: Sequence[Path], hr: Path | None, lr: Path | None, scales: Sequence[int], save: Path | None
) -> list[BenchmarkSet]:
    """All sets at all scales; what is wrong with any is said at once, and what could not be saved apart."""
    if bool(folders) == bool(lr):
        raise UsageError(
            "give the pictures either as --data DIR [DIR ...] or as --lr DIR, mostly with --hr DIR"
        )
    if hr and not lr:
        raise UsageError("--hr needs --lr; to have LR made from a folder of HR, give it as --data")
    sets, problems = [], []
    for scale in scales:
        if scale < 1:
            raise UsageError(f"scale {scale}: must be 1 or more")
        finds = [partial(paired_set, hr, lr)] if lr else [partial(find_set, folder) for folder in folders]
        for find in finds:
            try:
                sets.append(find(scale))
            except DataError as error:
                problems.append(str(error))
    if problems:
        raise DataError("; ".join(problems))
    names = Counter((one.name, one.scale) for one in sets)
    if save and (twice := sorted({name for (name, _), count in names.items() if count > 1})):
        raise UsageError(f"--save: several sets are called {', '.join(twice)}; do one at a time")
    return sets


def _show(rows: Sequence[ScoreRow], per_image: bool) -> None:
    """Print a table of the rows and, under each, if wanted, its pictures; then what failed."""
    shown = Table("set", "scale", "model", "PSNR/SSIM", "paper", "Table", "dB", "pictures")
    for row in rows:
        printed, psnr = row.paper(), row.mean("psnr")
        beside = (_scores(*printed), str(row.table)) if printed else ("", "")
        gap = f"{psnr - printed[0]:+.2f}" if psnr is not None and printed else ""
        count = str(len(row.images)) if row.complete else f"{len(row.images)} of {row.total}"
        rounded = sum("rounded_to_8_bits" in image for image in row.images)
        count += f", {rounded} rounded to 8 bits" if rounded else ""
        means = _scores(psnr, row.mean("ssim"), row.mean("niqe"))
        shown.add_row(row.set, f"x{row.scale}", row.model, means, *beside, gap, count)
        for image in row.images if per_image else ():
            found = _scores(image.get("psnr"), image.get("ssim"), image.get("niqe"))
            shown.add_row("", "", image["name"], found, style="dim")
    if rows:
        Console().print(shown)
    for row in rows:
        for name, reason in row.failed.items():
            typer.echo(f"esc-sr: {row.model} x{row.scale} on {row.set}: {name}: {reason}", err=True)


def _scores(psnr: float | None = None, ssim: float | None = None, niqe: float | None = None) -> str:
    """PSNR in dB and SSIM as the paper prints them, or NIQE."""
    if niqe is not None:
        return f"NIQE {niqe:.2f}"
    return "/".join(text for text in (psnr and f"{psnr:.2f}", ssim and f"{ssim:.4f}") if text)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr, if that is a terminal; call what it gives with the name of each picture begun."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=total)
        begun = iter(range(total))
        yield lambda name: bar.update(task, completed=next(begun), description=escape(name))
