"""`esc-sr export`: a network as a graph for another runtime."""

from pathlib import Path
from typing import Annotated

import typer

from esc_sr import weights
from esc_sr.cli.options import Denoise
from esc_sr.export import OPSET
from esc_sr.export import export as write
from esc_sr.families.contract import Network

app = typer.Typer(no_args_is_help=True, help="Write a network as a graph for other runtimes.")

Weights = Annotated[str, typer.Argument(metavar="MODEL", help="Bundled name, or checkpoint file.")]
Scale = Annotated[int | None, typer.Option("-s", "--scale", help="Of a bundled name without one.")]
Numbers = Annotated[str, typer.Option(help="fp32, or fp16: of all numbers; in OpenVINO of the weights.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing OUT.")]


@app.command()
def onnx(
    model: Weights,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, .onnx.")],
    scale: Scale = None,
    precision: Numbers = "fp32",
    opset: Annotated[int, typer.Option(min=18, max=23, help="Version of ONNX's operators.")] = OPSET,
    overwrite: Overwrite = False,
    denoise: Denoise = None,
) -> None:
    """Write ONNX, `input` to `output`: (batch, 3, height, width) in 0..1, of any sides; checked by a run."""
    network = weights.load(model, scale=scale, denoise=denoise)
    _export(network, out, "onnx", precision, opset, overwrite)


@app.command()
def openvino(
    model: Weights,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, .xml; .bin comes beside it.")],
    scale: Scale = None,
    precision: Numbers = "fp32",
    overwrite: Overwrite = False,
    denoise: Denoise = None,
) -> None:
    """Write OpenVINO's IR: as ONNX, and checked likewise."""
    network = weights.load(model, scale=scale, denoise=denoise)
    _export(network, out, "openvino", precision, OPSET, overwrite)


def _export(network: Network, out: Path, kind: str, precision: str, opset: int, overwrite: bool) -> None:
    for path, difference in write(network, out, kind, precision=precision, opset=opset, overwrite=overwrite):
        print(f"{path}: {difference:.1e} from the network at most, over pictures of several sizes")
