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


def show(facts: dict[str, Any], as_json: bool) -> None:
    """Print facts as a table without those that are None, or as JSON."""
    if as_json:
        print_json(facts)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None)
    for key, value in facts.items():
        if value is not None:
            table.add_row(key, Text(_plain(value), overflow="fold"))
    Console().print(table)


def _plain(value: Any) -> str:
    """A value for people; a mapping as one line per entry."""
    if not isinstance(value, dict):
        return str(value)
    return "\n".join(
        f"{key}: {json.dumps(v) if isinstance(v, dict | list) else v}" for key, v in value.items()
    )
