"""`esc-sr upscale`: picture files to larger picture files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esc_sr.cli.options import (
    AnyScale,
    Cluster,
    Denoise,
    Device,
    Height,
    Longest,
    OneEngine,
    OneModel,
    OnePrecision,
    SelfEnsemble,
    Shortest,
    Threads,
    Width,
    check_device,
)
from esc_sr.errors import UsageError
from esc_sr.upscaling import DEFAULT_MODEL, DEFAULT_NAME, DEFAULT_SCALE

if TYPE_CHECKING:
    from esc_sr.cluster.upscale import ClusterRun
    from esc_sr.upscaling.files import Existing, Todo
    from esc_sr.upscaling.names import Names


def upscale(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IN",
            help="Picture files, folders of them, patterns such as '*.png'; addresses such as s3://bucket/a; "
            "- is standard input.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="File, folder or address, - is standard output; by default photo_2x.jpg beside photo.jpg.",
        ),
    ] = None,
    model: OneModel = DEFAULT_MODEL,
    scale: AnyScale = None,
    width: Width = None,
    height: Height = None,
    longest: Longest = None,
    shortest: Shortest = None,
    device: Device = "auto",
    precision: OnePrecision = "fp32",
    engine: OneEngine = "auto",
    self_ensemble: SelfEnsemble = False,
    denoise: Denoise = None,
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="4GiB", help="What a picture may take; by default a safe part of what is free."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "-f", "--format", help="png, jpg, webp, tiff, avif or gif; by default as the input, or png."
        ),
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
        bool,
        typer.Option("--strip-metadata", help="Leave out EXIF, XMP, IPTC and comments; ICC profiles stay."),
    ] = False,
    allow_large: Annotated[
        bool, typer.Option("--allow-large", help="Take more than 128 megapixels, all frames together.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing outputs; never an input.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out what has an output: goes on with a broken run.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Go on with what comes into the input folders, until Ctrl-C; with -o FOLDER."
        ),
    ] = False,
    name: Annotated[
        str,
        typer.Option(
            metavar="TEMPLATE",
            help="Of outputs, without suffix: {stem}, {suffix}, {size}, {scale}, {model}, {width}, {height}.",
        ),
    ] = DEFAULT_NAME,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a picture on stdout; all else goes to stderr.")
    ] = False,
    threads: Threads = None,
    cluster: Cluster = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Upscale pictures: PNG, JPEG, WebP, TIFF, AVIF and GIF; BMP, ICO, TGA, PPM, JPEG 2000, HEIC to PNG."""
    from esc_sr.cli.report import Bar, Reporter
    from esc_sr.image import Encoding
    from esc_sr.machine.memory import parse_memory
    from esc_sr.upscaling.batch import Choices, run
    from esc_sr.upscaling.files import Job, Outcome, Todo
    from esc_sr.upscaling.names import Names
    from esc_sr.upscaling.sizes import Size, wish
    from esc_sr.upscaling.streams import STREAM
    from esc_sr.upscaling.watch import watch_folders

    existing = _existing(inputs, output, as_json, overwrite, skip_existing, watch)
    size = wish(scale=scale, width=width, height=height, longest=longest, shortest=shortest)
    encoding = Encoding(quality, subsampling, lossless, background, strip_metadata)
    choices = Choices(existing, encoding, allow_large)
    if cluster is not None:
        _check_cluster(inputs, output, watch, device)
        from esc_sr.cluster.enlarging import NetworkChoice
        from esc_sr.cluster.nodes import Wish
        from esc_sr.cluster.upscale import ClusterRun

        memory = None if max_memory is None else parse_memory(max_memory)
        network = NetworkChoice(model, size, precision, self_ensemble, engine, denoise)
        wishes = Wish(threads, device, memory)
        plan = ClusterRun(inputs, Path(str(output)), name, format, network, choices, wishes)
        return _on_cluster(plan, cluster, as_json, quiet)

    def find(size: Size) -> Todo:
        return _find(inputs, output, Names(name, size, Path(model).stem), format, existing, watch)

    def prepare(size: Size) -> Todo:
        bar.stage("looking for pictures")
        reporter.size = size
        todo = find(size)
        if not watch and not reporter.begin(todo):
            raise typer.Exit
        return todo

    with Bar(quiet) as bar:
        reporter = Reporter(Path(model).name, precision, as_json, quiet, bar, output == STREAM, denoise)
        if size is None and model == DEFAULT_MODEL:
            size = Size("scale", DEFAULT_SCALE)
        # mistakes show before the model is loaded, if they can
        todo = None if size is None else prepare(size)
        bar.stage("starting PyTorch")

        import torch

        from esc_sr.upscaling.engine import Upscaler

        if threads is not None:
            torch.set_num_threads(threads)
        bar.stage(f"loading {Path(model).name}")
        tell = None if quiet else bar.note
        upscaler = Upscaler(
            model,
            size,
            device,
            precision,
            self_ensemble,
            max_memory,
            bar.note,
            tell,
            engine=engine,
            denoise=denoise,
        )
        todo = todo or prepare(upscaler.size)
        reporter.device = str(upscaler.device)

        def do(jobs: Sequence[Job], say: Callable[[Outcome], object]) -> None:
            bar.stage("measuring the pictures")
            run(jobs, upscaler, say, choices, overlap=max_memory is None, progress=bar.show)
            bar.stage("waiting for pictures")

        if watch:
            bar.stage("waiting for pictures")
            watch_folders(lambda: find(upscaler.size), do, reporter.say, bar.note)
        do(todo.jobs, reporter.say)
        reporter.finish(todo.others)


def _on_cluster(plan: "ClusterRun", cluster: str, as_json: bool, quiet: bool) -> None:
    """Have a cluster do it."""
    from esc_sr.cli.report import Bar, Reporter
    from esc_sr.cluster.upscale import Listener, upscale
    from esc_sr.upscaling.files import Outcome
    from esc_sr.upscaling.sizes import Size

    with Bar(quiet) as bar:
        network = plan.network
        name, denoise = Path(network.model).name, network.denoise
        reporter = Reporter(name, network.precision, as_json, quiet, bar, denoise=denoise)

        def begin(size: Size) -> None:
            reporter.size = size

        def say(outcome: Outcome, device: str | None) -> None:
            reporter.device = device
            reporter.say(outcome)

        others = upscale(plan, cluster, Listener(begin, say, bar.show, bar.stage, bar.note))
        reporter.finish(others)


def _check_cluster(inputs: list[str], output: str | None, watch: bool, device: str) -> None:
    """Refuse what a cluster cannot do.

    Raises:
        UsageError: Options exclude each other.
    """
    from esc_sr.remote import is_address, shown
    from esc_sr.upscaling.streams import STREAM

    if watch:
        raise UsageError("--watch and --cluster exclude each other; leave out one of the two")
    if not output or STREAM in (*inputs, output):
        raise UsageError("--cluster needs files or folders as inputs, and -o FOLDER")
    if is_address(output):
        raise UsageError(f"{shown(output)}: an address; --cluster writes into a folder that all nodes see")
    check_device(device)


def _find(
    inputs: list[str],
    output: str | None,
    names: "Names",
    format: str | None,
    existing: "Existing",
    watch: bool,
) -> "Todo":
    """What there is to do: files, or a stream."""
    from esc_sr.upscaling.files import find_jobs
    from esc_sr.upscaling.streams import STREAM, find_stream_job

    if STREAM in (*inputs, output):
        return find_stream_job(inputs, output, names, format, existing)
    return find_jobs(inputs, output, names, format, existing, alone=watch)


def _existing(
    inputs: list[str], output: str | None, as_json: bool, overwrite: bool, skip_existing: bool, watch: bool
) -> "Existing":
    """What happens where an output exists.

    Raises:
        UsageError: Options exclude each other.
    """
    from esc_sr.upscaling.streams import STREAM

    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing exclude each other; leave out one of the two")
    if as_json and output == STREAM:
        raise UsageError("--json and -o - exclude each other; both want standard output")
    if watch:
        _check_watched(inputs, output, overwrite)
    return "overwrite" if overwrite else "skip" if skip_existing or watch else "refuse"


def _check_watched(inputs: list[str], output: str | None, overwrite: bool) -> None:
    """Refuse what cannot be watched.

    Raises:
        UsageError: An input is no folder; the output is none, or is watched too; or it is to be replaced.
    """
    if overwrite:
        raise UsageError("--watch and --overwrite exclude each other; what has an output is left out")
    from esc_sr.remote import is_address, shown
    from esc_sr.upscaling.places import is_folder, place_of

    for given in filter(is_address, (*inputs, output or "")):
        raise UsageError(f"{shown(given)}: an address, and --watch is for folders on this machine")
    for given in inputs:
        if not is_folder(place_of(given)):
            raise UsageError(f"{given}: no folder, and --watch waits for pictures in folders")
    if output is None or (Path(output).exists() and not Path(output).is_dir()):
        raise UsageError("--watch needs -o and another folder, so that no output is taken for an input")
    if any(Path(output).resolve() == Path(given).resolve() for given in inputs):
        raise UsageError(f"{output}: is watched itself; name another folder for the outputs")
