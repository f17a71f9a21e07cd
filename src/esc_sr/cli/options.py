"""Options that several commands have."""

from typing import Annotated

import typer

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
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda[:N]|xpu|mps", help="Where to compute.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; by default PyTorch decides.")]
