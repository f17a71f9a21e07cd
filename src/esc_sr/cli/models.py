"""`esc-sr models`: what is bundled. Needs no torch."""

import hashlib
from typing import Annotated, Any

import typer

from esc_sr import weights
from esc_sr.cli.output import AsJson, print_json, show
from esc_sr.errors import UsageError


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Show how these were trained: esc-light-x2, or esc-light."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the bundled weights, or show the cards of some."""
    found: list[dict[str, Any]] = [
        {
            "name": stem,
            "file": str(path),
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "card": card,
        }
        for stem, path, card in weights.bundled()
        if name in (None, stem, weights.family_of(stem))
    ]
    if not found:
        weights.find(f"{name}")  # says which there are
        raise UsageError(f"{name}: a file; `esc-sr info {name}` tells about it")
    if as_json:
        print_json(found)
    elif name is None:
        _show_models(found)
    else:
        for model in found:
            show({**model, "card": None, **(model["card"] or {})}, as_json)


def _show_models(found: list[dict[str, Any]]) -> None:
    """A line for each, and how to learn more."""
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "MiB", "for")
    for model in found:
        table.add_row(
            model["name"],
            f"{model['bytes'] / 2**20:.1f}",
            weights.ADVICE.get(weights.family_of(model["name"]), ""),
        )
    Console().print(table)
    print("esc-sr models NAME shows how one was trained.")
