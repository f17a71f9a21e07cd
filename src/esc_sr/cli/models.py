"""`esc-sr models`: what is bundled, which needs no torch; and all networks that can be loaded."""

import hashlib
from itertools import groupby
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
    everything: Annotated[
        bool,
        typer.Option("--all", help="List all networks that can be loaded, and where weights are published."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the bundled weights, or show the cards of some; or list all networks."""
    if everything:
        if name is not None:
            raise UsageError("pass either NAME or --all")
        _show_all(as_json)
        return
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


def _show_all(as_json: bool) -> None:
    """Every network, with its sizes and where its weights are, as soon as it is built; needs torch."""
    from esc_sr.benchmark.networks import published, systems

    if as_json:
        print_json(list(systems()))
        return
    print("`-n FILE` takes files of all of them, `esc-sr train classic --model NAME` trains.")
    width = max(map(len, published()))
    for network, members in groupby(systems(), key=lambda system: system["network"]):
        for place, system in enumerate(members):
            if not place:
                print(f"\n{network}: {system['weights'] or 'no published weights are known'}")
            sizes = (f"x{scale} {count / 1e3:.0f} K" for scale, count in system["parameters"].items())
            print(f"  {system['name']:{width}} ", ", ".join(sizes), flush=True)
