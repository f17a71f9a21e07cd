"""`esc-sr`: the verbs, and what an error looks like."""

import errno
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from esc_sr import __version__
from esc_sr.cli.output import note
from esc_sr.cli.upscale import upscale
from esc_sr.errors import EscError

_LATER = {
    "app": "Open a page in the browser to upscale pictures; the same server is an HTTP API.",
    "video": "Upscale a video, with its sound and all else as it was.",
    "evaluate": "Measure networks on benchmark sets, as the paper does.",
    "compare": "Measure a picture against its original, or alone.",
    "train": "Train a network by one of the paper's recipes.",
    "analyze": "Look into networks, and draw the paper's figures.",
    "benchmark": "Measure what the networks cost: MACs, latency, memory.",
    "check-data": "List training pictures that are unreadable, too small, unpaired or there twice.",
    "extract": "Cut large training pictures into overlapping tiles.",
    "degrade": "Make low-resolution samples by the real-world degradation, to look at.",
    "info": "Tell what a checkpoint file is, or what esc-sr finds on this machine.",
    "convert": "Convert a checkpoint file to another dialect.",
    "mix": "Write the network between two, one trained from the other.",
    "export": "Write a network as a graph for ONNX Runtime, OpenVINO and others.",
    "models": "List the bundled weights, or show how some were trained.",
}
"""Verbs whose modules need torch: imported when called, so that `--help` is there at once."""


_FULL = (errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC))
"""What standard output says of a full disk; of other files an `EscError` does."""


class _Verbs(TyperGroup):
    """Finds verbs late, and shows what a user can cause as one line."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the module of a verb when it is called."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, _import_verb(name) if name in _LATER else command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run a verb; an error is one line and exit code 2, Ctrl-C 130."""
        try:
            return super().invoke(ctx)
        except EscError as error:
            note(f"error: {error}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            note("interrupted")
            raise typer.Exit(130) from None


app = typer.Typer(cls=_Verbs, no_args_is_help=True, pretty_exceptions_show_locals=False)
app.command()(upscale)
for _name, _help in _LATER.items():
    app.command(_name, help=_help)(lambda: None)


def _show_version(wanted: bool) -> None:
    """Print the version and end, if that is wanted."""
    if wanted:
        typer.echo(f"esc-sr {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """Image super-resolution with ESC: upscale pictures, train networks, look at their weights."""


def main() -> None:
    """Run the command line.

    The exit code is 0 when all is done, 1 when some of many pictures failed or a folder holds none that is
    read, 2 when all failed or the arguments cannot work, and 130 after Ctrl-C.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed; the next file to be opened would take its place
            setattr(sys, name, open(os.devnull, mode))
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may hold anything
    try:
        app(prog_name="esc-sr")
    except OSError as error:
        if error.errno not in _FULL:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python still holds
        note(f"error: standard output: {error.strerror}")
        sys.exit(2)


def _import_verb(name: str) -> Any:
    """The real command behind a name in `_LATER`: of the module of that name, or of `weights`."""
    name = name.replace("-", "_")
    module = import_module(f"esc_sr.cli.{'weights' if name in ('info', 'convert', 'mix') else name}")
    if isinstance(getattr(module, "app", None), typer.Typer):
        return get_group(module.app)
    verb = typer.Typer(add_completion=False)
    verb.command()(getattr(module, name))
    return get_command(verb)
