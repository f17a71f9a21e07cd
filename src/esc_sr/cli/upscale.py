"""`esc-sr upscale`: picture files to larger picture files."""

from pathlib import Path
from typing import Annotated

import typer

from esc_sr.errors import UsageError
from esc_sr.upscaling import DEFAULT_MODEL, DEFAULT_NAME, DEFAULT_SCALE


def upscale(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IN",
            help="Picture files, folders of them, patterns such as '*.png'; - is standard input.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="File or folder, - is standard output; by default photo_2x.jpg beside photo.jpg.",
        ),
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
    engine: Annotated[
        str,
        typer.Option(
            metavar="auto|torch|native|openvino|onnx",
            help="What computes; auto is the fastest with float32's numbers, the last two are extras.",
        ),
    ] = "auto",
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
        bool, typer.Option("--strip-metadata", help="Leave out EXIF, XMP and IPTC; ICC profiles stay.")
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
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; by default PyTorch decides.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Upscale pictures: PNG, JPEG, WebP, TIFF, AVIF and GIF; BMP, ICO, TGA, PPM, JPEG 2000, HEIC to PNG."""
    from esc_sr.cli.report import Bar, Reporter
    from esc_sr.image import Encoding
    from esc_sr.upscaling.batch import Choices, run
    from esc_sr.upscaling.files import Todo, find_jobs
    from esc_sr.upscaling.names import Names
    from esc_sr.upscaling.sizes import Size, wish
    from esc_sr.upscaling.streams import STREAM, find_stream_job

    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing exclude each other; leave out one of the two")
    if as_json and output == STREAM:
        raise UsageError("--json and -o - exclude each other; both want standard output")
    size = wish(scale=scale, width=width, height=height, longest=longest, shortest=shortest)
    encoding = Encoding(quality, subsampling, lossless, background, strip_metadata)
    choices = Choices(
        "overwrite" if overwrite else "skip" if skip_existing else "refuse", encoding, allow_large
    )

    def prepare(size: Size) -> Todo:
        bar.stage("looking for pictures")
        reporter.size = size
        names = Names(name, size, Path(model).stem)
        find = find_stream_job if STREAM in (*inputs, output) else find_jobs
        todo = find(inputs, output, names, format, choices.existing)
        for outcome in todo.settled:
            reporter.say(outcome)
        if todo.left_out and not quiet:
            bar.note(
                f"left out as outputs of an earlier run: {len(todo.left_out)}, such as {todo.left_out[0]}"
            )
        if not todo.jobs:
            reporter.finish(todo.others)
            raise typer.Exit
        return todo

    with Bar(quiet) as bar:
        reporter = Reporter(Path(model).name, precision, as_json, quiet, bar, output == STREAM)
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
            model, size, device, precision, self_ensemble, max_memory, bar.note, tell, engine=engine
        )
        todo = todo or prepare(upscaler.size)
        reporter.device = str(upscaler.device)
        bar.stage("measuring the pictures")
        run(todo.jobs, upscaler, reporter.say, choices, overlap=max_memory is None, progress=bar.show)
        reporter.finish(todo.others)
