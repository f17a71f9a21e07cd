"""What goes where: with `--json` JSON to stdout and nothing else, everything for people to stderr."""

import json
import math
import sys
from contextlib import AbstractContextManager, redirect_stdout, suppress
from typing import Annotated, Any

import typer

from esc_sr.errors import one_line

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout; all else goes to stderr.")
]


def note(text: str) -> None:
    """Say something on stderr, if that can be written."""
    with suppress(OSError):
        typer.echo(f"esc-sr: {one_line(text)}", err=True)


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print a value on stdout, as `to_json` writes it."""
    typer.echo(to_json(value, indent))


def to_json(value: Any, indent: int | None = 2) -> str:
    """Write a value as JSON, without indent in one line; NaN and infinity become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def for_people(as_json: bool) -> AbstractContextManager[Any]:
    """Send what is printed to stderr where stdout is for JSON."""
    return redirect_stdout(sys.stderr if as_json else sys.stdout)


def _finite(value: Any) -> Any:
    """A value as JSON can hold it: None in place of floats that are not finite."""
    match value:
        case dict():
            return {key: _finite(part) for key, part in value.items()}
        case list() | tuple():
            return [_finite(part) for part in value]
        case float() if not math.isfinite(value):
            return None
    return value
