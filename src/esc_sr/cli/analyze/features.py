"""`esc-sr analyze features`: what layers make of a picture."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from esc_sr.analysis import features as averages
from esc_sr.analysis.store import key_of
from esc_sr.cli.analyze.work import FigureFile, OneScale, Patterns, analysis, load, title
from esc_sr.cli.options import Device, OneModel, Threads
from esc_sr.cli.output import AsJson
from esc_sr.image import read_image, to_rgb8


def features(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="LR picture, as it is.")],
    model: OneModel = "esc-light",
    scale: OneScale = None,
    output: FigureFile = Path("features.png"),
    layer: Patterns = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Show what ConvAttns make of a picture: F_idt, and with large and dynamic kernel (Figure 6)."""
    with analysis("features", output, as_json, threads, device) as work:
        network = load(model, scale, work.device)
        lr, patterns = to_rgb8(read_image(picture)), layer or []
        arrays = work.store.get(
            key_of("features", network, lr, patterns, scale),
            lambda: {
                f"{label}:{name}": mean
                for label, means in averages.measure(network, lr, patterns=patterns, scale=scale or 4).items()
                for name, mean in means.items()
            },
        )
        found: dict[str, dict[str, np.ndarray]] = {}
        for path, mean in arrays.items():
            label, _, name = path.partition(":")
            found.setdefault(label, {})[name] = mean
        rows = [
            {"layer": label, "what": name, "mean": float(mean.mean()), "deviation": float(mean.std())}
            for label, means in found.items()
            for name, mean in means.items()
        ]
        print(f"{len(found)} rows of maps; their values are in the .npz")
        work.finish(averages.draw(found, title(network, model)), rows, model=model, picture=picture.name)
