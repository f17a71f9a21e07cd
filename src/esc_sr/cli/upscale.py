"""`esc-sr upscale`: picture files to larger picture files."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from esc_sr.errors import EscError
from esc_sr.upscale import DEFAULT_MODEL, DEFAULT_SCALE


def upscale(
    inputs: Annotated[list[Path], typer.Argument(metavar="IN", help="Picture files, and folders of them.")],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="File or folder; by default photo_2x.jpg beside photo.jpg."),
    ] = None,
    model: Annotated[
        str, typer.Option("-n", "--model", help="Bundled name, or checkpoint file.")
    ] = DEFAULT_MODEL,
    scale: Annotated[
        float | None,
        typer.Option("-s", "--scale", help="Enlargement, as 3 or 2.5; by default the model's own, or 2."),
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Of the result in pixels, in place of a scale; likewise:")
    ] = None,
    height: Annotated[int | None, typer.Option(help="Of the result in pixels.")] = None,
    longest: Annotated[int | None, typer.Option(help="Longest side of the result in pixels.")] = None,
    shortest: Annotated[int | None, typer.Option(help="Shortest side of the result in pixels.")] = None,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda[:N]|xpu|mps", help="Where to compute.")
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="fp32|bf16|fp16", help="Of the arithmetic; 16 bits are for devices made for them."
        ),
    ] = "fp32",
    self_ensemble: Annotated[
        bool,
        typer.Option(
            "--self-ensemble", help="Mean over 8 flips and rotations: a bit better, 8 times as long."
        ),
    ] = False,
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="4GiB", help="What a picture may take; by default a safe part of what is free."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option("-f", "--format", help="png, jpg, webp, tiff, avif or gif; by default as the input."),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(metavar="1..100", help="Of JPEG, WebP and AVIF; by default 95, 95 and 90.")
    ] = None,
    subsampling: Annotated[
        str, typer.Option(metavar="auto|4:4:4|4:2:0", help="Of the colours in JPEG and AVIF; auto is 4:4:4.")
    ] = "auto",
    lossless: Annotated[bool, typer.Option("--lossless", help="WebP and AVIF without loss.")] = False,
    background: Annotated[
        str, typer.Option(metavar="white|black|#rrggbb", help="Where the output has no transparency.")
    ] = "white",
    strip_metadata: Annotated[
        bool, typer.Option("--strip-metadata", help="Leave out EXIF, XMP and IPTC; ICC profiles stay.")
    ] = False,
    allow_large: Annotated[
        bool, typer.Option("--allow-large", help="Read pictures of more than 512 megapixels, too.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing outputs; never an input.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; by default PyTorch decides.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Upscale pictures: PNG, JPEG, WebP, TIFF, AVIF and GIF."""
    from esc_sr.image import Encoding
    from esc_sr.upscale.files import Plan, plan, upscale_file
    from esc_sr.upscale.sizes import Size, wish

    size = wish(scale=scale, width=width, height=height, longest=longest, shortest=shortest)
    encoding = Encoding(quality, subsampling, lossless, background, strip_metadata)
    tell: Callable[[str], None] = (lambda text: None) if quiet else cache(_note)  # each thing once

    def prepare(size: Size) -> Plan:
        todo = plan(inputs, output, size, format, overwrite)
        for problem in todo.problems:
            _note(f"error: {problem}")
        if not todo.jobs:
            _finish(len(todo.problems), len(todo.problems))
        return todo

    if size is None and model == DEFAULT_MODEL:
        size = Size("scale", DEFAULT_SCALE)
    todo = None if size is None else prepare(size)  # mistakes show before the model is loaded, if they can

    import torch

    from esc_sr.upscale.engine import Upscaler

    if threads is not None:
        torch.set_num_threads(threads)
    report = None if quiet else _note
    upscaler = Upscaler(model, size, device, precision, self_ensemble, max_memory, _note, report)
    todo = todo or prepare(upscaler.size)
    how = f"{Path(model).name} {upscaler.size}, {upscaler.device}, {precision}"
    failed, total = len(todo.problems), len(todo.problems) + len(todo.jobs)
    with _progress(len(todo.jobs), quiet) as begin:
        for job in todo.jobs:
            begin(job.source.name)
            start = time.perf_counter()
            try:
                before, after = upscale_file(job, upscaler, overwrite, encoding, allow_large, tell)
            except EscError as error:
                _note(f"error: {error}")
                failed += 1
                continue
            seconds = time.perf_counter() - start
            if not quiet:
                typer.echo(f"{job.source} {before} -> {job.target} {after}, {how}, {seconds:.1f} s")
    _finish(failed, total)


def _finish(failed: int, total: int) -> None:
    """Count the failures, and turn them into the exit code."""
    if failed and total > 1:
        _note(f"{failed} of {total} failed")
    if failed:
        raise typer.Exit(2 if failed == total else 1)


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A bar on stderr, if that is a terminal; call what it gives with the name of each picture begun."""
    if quiet or not sys.stderr.isatty():
        yield lambda name: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TimeElapsedColumn

    bar = Progress(
        "{task.completed}/{task.total}",
        BarColumn(),
        TimeElapsedColumn(),
        "{task.description}",
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )
    with bar:
        task = bar.add_task("", total=total)
        begun = iter(range(total))
        yield lambda name: bar.update(task, completed=next(begun), description=escape(name))


def _note(text: str) -> None:
    typer.echo(f"esc-sr: {text}", err=True)
