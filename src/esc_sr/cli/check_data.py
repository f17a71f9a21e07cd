"""`esc-sr check-data`: what is wrong with training pictures, before a run stumbles over it."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from esc_sr.cli.output import print_json
from esc_sr.cli.report import counter
from esc_sr.data.check import KINDS, check_pictures


def check_data(
    roots: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Folders and .tar shards of HR pictures.")
    ],
    lr: Annotated[
        list[Path] | None, typer.Option(help="Folder or .tar shard of LR pictures, once for each PATH.")
    ] = None,
    scale: Annotated[int, typer.Option("-s", "--scale", min=1, help="HR pixels per LR pixel.")] = 4,
    patch: Annotated[int, typer.Option(min=1, help="Side of an LR crop, px.")] = 64,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a finding, and one with the counts, on stdout.")
    ] = False,
) -> None:
    """Decode all training pictures; list those unreadable, too small, without a partner, or there twice.

    The exit code is 1 if there are any.
    """
    total, findings = check_pictures(roots, lr or [], scale=scale, patch=patch, progress=counter("checked"))
    counts = Counter(finding.kind for finding in findings)
    summary = {"pictures": total, **{kind: counts[kind] for kind in KINDS}}
    if as_json:
        for record in (*(finding._asdict() for finding in findings), summary):
            print_json(record, indent=None)
    else:
        for finding in findings:
            print(f"{finding.kind:<10}  {finding.picture}: {finding.text}")
        print(", ".join(f"{count} {kind}" for kind, count in summary.items()))
    if findings:
        raise typer.Exit(1)
