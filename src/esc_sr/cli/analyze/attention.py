"""`esc-sr analyze attention`: what self-attentions prefer."""

from pathlib import Path

from esc_sr.analysis import distances
from esc_sr.analysis.store import Arrays, key_of
from esc_sr.cli.analyze.work import (
    FigureFile,
    LrFiles,
    OneScale,
    Samples,
    SetFolder,
    analysis,
    load,
    title,
)
from esc_sr.cli.options import Device, OneModel, Threads
from esc_sr.cli.output import AsJson


def attention(
    files: LrFiles = None,
    data: SetFolder = None,
    model: OneModel = "esc-light",
    scale: OneScale = None,
    output: FigureFile = Path("attention.png"),
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Show the biases of self-attentions by offset, and the mean distance at which each head looks."""
    with analysis("attention", output, as_json, threads, device) as work:
        network = load(model, scale, work.device)
        distances.attentions(network)
        samples = Samples(files or [], data, network.config.scale or scale or 4, None)

        def compute() -> Arrays:
            looks = distances.measure(network, (sample.lr for sample in samples), scale=samples.scale)
            return {
                f"{label}:{name}": a for label, each in looks.items() for name, a in each._asdict().items()
            }

        key = key_of("attention", network, samples.scale, *(sample.lr for sample in samples.quietly()))
        arrays = work.store.get(key, compute)
        labels = dict.fromkeys(path.partition(":")[0] for path in arrays)
        found = {
            label: distances.Looks(*(arrays[f"{label}:{name}"] for name in distances.Looks._fields))
            for label in labels
        }
        rows = [
            {"layer": label, "distance": looks.distance.tolist(), "even": float(looks.even)}
            for label, looks in found.items()
        ]
        for row in rows:
            print(
                f"{row['layer']}: mean distance of each head "
                + ", ".join(f"{d:.1f}" for d in row["distance"])
                + f" px; all alike {row['even']:.1f}"
            )
        work.finish(distances.draw(found, title(network, model)), rows, model=model, **samples.facts)
