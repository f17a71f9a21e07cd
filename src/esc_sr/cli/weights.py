"""`esc-sr info`, `convert` and `mix`: what weights are, their names, what lies between two; what is here."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from esc_sr import weights
from esc_sr.cli.output import AsJson, show
from esc_sr.errors import UsageError
from esc_sr.families import describe, variant
from esc_sr.families.contract import Network
from esc_sr.machine.device import describe as describe_device
from esc_sr.record import environment
from esc_sr.weights.checkpoint import UnknownNetworkError, build, read
from esc_sr.weights.others import by_spandrel


class Dialect(StrEnum):
    """Whose parameter names and file format to write."""

    native = "native"
    official = "official"


def info(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="Checkpoint file, or bundled name.")
    ] = None,
    system: Annotated[bool, typer.Option("--system", help="Tell about this machine instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell what a checkpoint file is, or what esc-sr finds on this machine."""
    if system == (file is not None):
        raise UsageError("pass either FILE or --system")
    show(_system() if file is None else _about(file), as_json)


def _system() -> dict[str, Any]:
    """Versions, processor, threads, compiled kernels and devices of this machine."""
    found = environment(torch.device("cpu"))
    devices = {"cpu": found["device_name"]}
    if (accelerator := torch.accelerator.current_accelerator(check_available=True)) is not None:
        for number in range(torch.accelerator.device_count()):
            device = torch.device(accelerator.type, number)
            devices[str(device)] = describe_device(device) if device.type == "cuda" else device.type
    keys = ("esc_sr", "torch", "python", "platform", "cpu_capability", "threads", "native")
    return {key: found[key] for key in keys} | {"devices": devices}


def _about(file: str) -> dict[str, Any]:
    """What a checkpoint file is."""
    path = weights.find(file)
    try:
        checkpoint = read(path)
    except UnknownNetworkError as unknown:
        return _about_other(path, by_spandrel(unknown))
    config = checkpoint.config
    return {
        "file": str(path),
        "network": describe(config),
        "preset": variant(config),
        "scale": config.scale or "any",
        "names": checkpoint.dialect,
        "inside": checkpoint.place,
        "parameters": sum(p.numel() for p in build(checkpoint).parameters()),
        "stored as": ", ".join(sorted({str(t.dtype)[6:] for t in checkpoint.state.values()})),
        "sizes": config.sizes(),
        "card": checkpoint.card,
    }


def _about_other(path: Path, network: Network) -> dict[str, Any]:
    """What a file of a network of no family is."""
    return {
        "file": str(path),
        "network": describe(network.config),
        "scale": network.config.scale,
        "computed by": "spandrel",
        "parameters": sum(p.numel() for p in network.parameters()),
    }


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="Checkpoint file, or bundled name.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write; native: .safetensors.")],
    to: Annotated[Dialect, typer.Option(help="Our format, or the authors' names.")] = Dialect.native,
    scale: Annotated[
        int | None,
        typer.Option(help="Make starting weights for another scale: resize the last convolution."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing OUT.")] = False,
) -> None:
    """Convert a checkpoint file to our format or to the authors'; no number changes."""
    config = weights.convert(source, out, to.value, scale, overwrite)
    print(f"{out}: {describe(config)}, {to.value}")


def mix(
    source: Annotated[str, typer.Argument(metavar="A", help="Checkpoint file, or bundled name.")],
    other: Annotated[
        str, typer.Argument(metavar="B", help="One of the same sizes, trained from A, or A from it.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, .safetensors.")],
    share: Annotated[float, typer.Option(metavar="0..1", help="How much of A; the rest is B's.")] = 0.5,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing OUT.")] = False,
) -> None:
    """Write the network between two: each number is the weighted mean of theirs."""
    config = weights.mix_files(source, other, out, share, overwrite)
    print(f"{out}: {describe(config)}, {share:.0%} of {source}, {1 - share:.0%} of {other}")
