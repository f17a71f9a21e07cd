"""Options that several commands have."""

from typing import Annotated

import typer

from esc_sr.errors import UsageError

OneModel = Annotated[str, typer.Option("-n", "--model", help="Bundled name, or checkpoint file.")]
AnyScale = Annotated[
    float | None,
    typer.Option("-s", "--scale", help="Enlargement, as 3 or 2.5; by default the model's own, or 2."),
]
Width = Annotated[int | None, typer.Option(help="Of the result in pixels, in place of a scale; likewise:")]
Height = Annotated[int | None, typer.Option(help="Of the result in pixels.")]
Longest = Annotated[int | None, typer.Option(help="Longest side of the result in pixels.")]
Shortest = Annotated[int | None, typer.Option(help="Shortest side of the result in pixels.")]
OnePrecision = Annotated[
    str,
    typer.Option(metavar="fp32|bf16|fp16", help="Of the arithmetic; 16 bits are for devices made for them."),
]
OneEngine = Annotated[
    str,
    typer.Option(
        metavar="auto|torch|native|openvino|onnx",
        help="What computes; auto is the fastest with float32's numbers, the last two are extras.",
    ),
]
SelfEnsemble = Annotated[
    bool,
    typer.Option("--self-ensemble", help="Mean over 8 flips and rotations: a bit better, 8 times as long."),
]
Denoise = Annotated[
    float | None,
    typer.Option(
        metavar="0..1",
        help="How much noise goes, of a model that has weak weights beside: 0 least, 1 most, as by default.",
    ),
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda[:N]|xpu|mps", help="Where to compute.")]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ray[://HOST:PORT]",
        help="Have the nodes of a Ray cluster do it, with --threads for each worker.",
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; by default PyTorch decides.")]


def check_device(device: str) -> None:
    """Refuse a device that not every worker of a cluster can have.

    Raises:
        UsageError: It is such a one.
    """
    if device not in ("auto", "cpu", "cuda"):
        known = "with --cluster say auto, cpu or cuda; each worker has its own GPU"
        raise UsageError(f"--device {device}: {known}")


def show_denoise(denoise: float | None) -> str:
    """What is said of it after model and size: ", denoise 0.5"; nothing where it is not given."""
    return "" if denoise is None else f", denoise {denoise:g}"
