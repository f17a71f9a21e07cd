"""`esc-sr analyze similarity`: how alike layers are."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from esc_sr.analysis import similarity as similarities
from esc_sr.analysis.store import key_of
from esc_sr.cli.analyze.work import (
    FigureFile,
    LrFiles,
    OneScale,
    Patterns,
    Samples,
    SetFolder,
    analysis,
    load,
    title,
)
from esc_sr.cli.options import Device, OneModel, Threads
from esc_sr.cli.output import AsJson


def similarity(
    files: LrFiles = None,
    data: SetFolder = None,
    model: OneModel = "esc-light",
    scale: OneScale = None,
    output: FigureFile = Path("similarity.png"),
    layer: Patterns = None,
    pixels: Annotated[
        int, typer.Option(min=2, help="Pixels of a picture that are compared, at most.")
    ] = similarities.PIXELS,
    limit: Annotated[int | None, typer.Option(min=1, help="Pictures, at most.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Compare layers by CKA and cosine: what they add to the skip path; attention maps (Figures 2, 6)."""
    with analysis("similarity", output, as_json, threads, device) as work:
        network = load(model, scale, work.device)
        samples = Samples(files or [], data, network.config.scale or scale or 4, limit)
        options: dict[str, Any] = {"patterns": layer or [], "scale": samples.scale, "pixels": pixels}
        key = key_of("similarity", network, options, *(sample.lr for sample in samples.quietly()))

        def compute() -> dict[str, NDArray[Any]]:
            lr = (sample.lr for sample in samples)
            found = similarities.measure(network, lr, **options)
            return {
                f"{kind}:{name}": np.array(part)
                for kind, s in found.items()
                for name, part in s._asdict().items()
            }

        arrays = work.store.get(key, compute)
        kinds = dict.fromkeys(path.rpartition(":")[0] for path in arrays)
        found = {
            kind: similarities.Similarity(
                tuple(map(str, arrays[f"{kind}:layers"])), arrays[f"{kind}:cka"], arrays[f"{kind}:cosine"]
            )
            for kind in kinds
        }
        rows = [
            {
                "what": kind,
                "layers": list(one.layers),
                "mean_cka": one.mean("cka"),
                "mean_cosine": one.mean("cosine"),
                "cka": one.cka.tolist(),
                "cosine": one.cosine.tolist(),
            }
            for kind, one in found.items()
        ]
        for row in rows:
            print(f"{row['what']}: mean CKA {row['mean_cka']:.3f}, mean cosine {row['mean_cosine']:.3f}")
        work.finish(
            similarities.draw(found, title(network, model)),
            rows,
            model=model,
            **samples.facts,
        )
