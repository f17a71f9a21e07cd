"""`esc-sr analyze kernels`: what ConvAttns convolve with."""

from pathlib import Path

from esc_sr.analysis import filters
from esc_sr.analysis.store import key_of
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


def kernels(
    files: LrFiles = None,
    data: SetFolder = None,
    model: OneModel = "esc-light",
    scale: OneScale = None,
    output: FigureFile = Path("kernels.png"),
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Show the large kernel and its spectrum, and the dynamic kernels of pictures."""
    with analysis("kernels", output, as_json, threads, device) as work:
        network = load(model, scale, work.device)
        samples = Samples(files or [], data, network.config.scale or scale or 4, None)
        arrays = work.store.get(
            key_of("kernels", network, samples.scale, *(sample.lr for sample in samples.quietly())),
            lambda: filters.measure(
                network, (sample.lr for sample in samples), scale=samples.scale
            )._asdict(),
        )
        found = filters.Filters(arrays["layers"], arrays["large"], arrays["dynamic"])
        sizes = filters.strength(found.dynamic, found.large).tolist() if len(found.dynamic) else None
        varied = filters.variation(found.dynamic).tolist() if len(found.dynamic) > 1 else None
        rows = [
            {
                "layer": str(label),
                "dynamic_over_large": sizes and sizes[place],
                "variation": varied and varied[place],
            }
            for place, label in enumerate(found.layers)
        ]
        for row in rows if sizes else ():
            differs = f", {row['variation']:.3f} of it by the picture" if varied else ""
            print(f"{row['layer']}: dynamic kernel {row['dynamic_over_large']:.3f} of the large one{differs}")
        facts = {
            "energy": filters.energy(found.large).tolist(),
            "spectrum": filters.spectrum(found.large).tolist(),
            "model": model,
        }
        work.finish(filters.draw(found, title(network, model)), rows, **facts, **samples.facts)
