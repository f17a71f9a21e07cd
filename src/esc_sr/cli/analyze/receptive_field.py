"""`esc-sr analyze receptive-field`: how far networks see."""

from pathlib import Path
from typing import Annotated

import typer

from esc_sr.analysis import receptive
from esc_sr.analysis.store import Arrays, key_of
from esc_sr.cli.analyze.work import (
    FigureFile,
    LrFiles,
    OneScale,
    Samples,
    SetFolder,
    SeveralModels,
    analysis,
    load_all,
)
from esc_sr.cli.options import Device, Threads
from esc_sr.cli.output import AsJson
from esc_sr.families.contract import Network


def receptive_field(
    files: LrFiles = None,
    data: SetFolder = None,
    model: SeveralModels = None,
    scale: OneScale = None,
    output: FigureFile = Path("receptive-field.png"),
    side: Annotated[int, typer.Option(min=3, help="Of the middle of LR that is looked at, px.")] = 96,
    limit: Annotated[int | None, typer.Option(min=1, help="Pictures, at most.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Measure how far networks see: the gradient of a pixel by LR pixels (effective receptive field)."""
    with analysis("receptive-field", output, as_json, threads, device) as work:
        networks, scale = load_all(model or ["esc-light"], scale, work.device)
        samples = Samples(files or [], data, scale, limit)
        shown = key_of(*(sample.lr for sample in samples.quietly()))
        fields = {}
        for name, network in networks.items():

            def compute(network: Network = network) -> Arrays:
                lr = (sample.lr for sample in samples)
                return {"field": receptive.measure(network, lr, side=side, scale=scale)}

            arrays = work.store.get(key_of("receptive-field", network, scale, side, shown), compute)
            fields[name] = arrays["field"]
        rows = [
            {
                "model": name,
                **{
                    f"width_{100 * share:.0f}": receptive.width_of(field, share) for share in receptive.SHARES
                },
                "extent": receptive.extent(field),
                "rings": receptive.rings(field).tolist(),
            }
            for name, field in fields.items()
        ]
        for row in rows:
            widths = ", ".join(
                f"{100 * share:.0f} % in {row[f'width_{100 * share:.0f}']}" for share in receptive.SHARES
            )
            print(f"{row['model']}: {widths} px; all in {min(row['extent'], side)} of {side} px")
        work.finish(receptive.draw(fields), rows, side=side, **samples.facts)
