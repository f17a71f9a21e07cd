"""`esc-sr extract`: large training pictures to overlapping tiles."""

from pathlib import Path
from typing import Annotated

import typer

from esc_sr.cli.output import note
from esc_sr.cli.report import counter
from esc_sr.data.extract import extract as cut


def extract(
    inputs: Annotated[list[Path], typer.Argument(metavar="IN", help="Folders and .tar shards of pictures.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder, or .tar shard, for the tiles.")],
    side: Annotated[int, typer.Option(help="Of a tile, px.")] = 480,
    step: Annotated[int, typer.Option(help="From one tile to the next, px.")] = 240,
    multiscale: Annotated[
        bool,
        typer.Option(
            "--multiscale",
            help="Also of the picture reduced to 0.75, 0.5 and 1/3, and to a shortest side of 400 px, as for "
            "ESC-Real.",
        ),
    ] = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            help="Go on with a broken run: leave out pictures that have their tiles in OUT.",
        ),
    ] = False,
) -> None:
    """Cut pictures into overlapping tiles, PNG, from which training reads crops faster.

    The last tiles end at the edge; smaller pictures are kept whole. What cannot be read is named at the end,
    and the exit code is 1.
    """
    tiles, faults = cut(
        inputs,
        out,
        side=side,
        step=step,
        multiscale=multiscale,
        skip_existing=skip_existing,
        progress=counter("cut"),
    )
    for fault in faults:
        note(f"error: {fault}")
    print(f"{tiles} tiles in {out}" + (f"; {len(faults)} pictures left out" if faults else ""))
    if faults:
        raise typer.Exit(1)
