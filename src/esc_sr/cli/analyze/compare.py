"""`esc-sr analyze compare`: results side by side."""

import re
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from esc_sr.analysis import sheets
from esc_sr.analysis.store import Arrays, key_of
from esc_sr.bicubic import enlarged
from esc_sr.cli.analyze.work import (
    FigureFile,
    LrFiles,
    OneScale,
    Samples,
    SetFolder,
    SeveralModels,
    analysis,
    load,
)
from esc_sr.cli.options import Device, Threads
from esc_sr.cli.output import AsJson
from esc_sr.errors import UsageError
from esc_sr.evaluate.run import BICUBIC, Method, find_methods


def compare(
    files: LrFiles = None,
    data: SetFolder = None,
    names: Annotated[
        list[str] | None, typer.Option("--picture", metavar="NAME", help="Of --data; may be repeated.")
    ] = None,
    model: SeveralModels = None,
    scale: OneScale = None,
    output: FigureFile = Path("compare.png"),
    crop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LEFT,TOP,WIDTH,HEIGHT",
            help="Of the enlarged picture, px; may be repeated. By default where the results differ most.",
        ),
    ] = None,
    side: Annotated[int, typer.Option(min=8, help="Of that crop, px.")] = 64,
    limit: Annotated[int, typer.Option(min=1, help="Pictures, at most.")] = 8,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Set results side by side, LR first, then in the order of -n, then HR (Figures 5, 8 and 9).

    `bicubic` is a model too. `esc-sr compare` measures two files; `esc-sr evaluate` a whole set.
    """
    with analysis("compare", output, as_json, threads, device) as work:
        wanted = model or [BICUBIC, "esc-light"]
        cuts = [_cut(text) for text in crop or []]
        if scale is None:
            first = next((name for name in wanted if name != BICUBIC), None)
            scale = first and load(first, None, work.device).config.scale or 4
        methods = find_methods(wanted, scale, work.device)
        samples = Samples(files or [], data, scale, limit, names or [])
        subjects = []
        for sample in samples:
            size = enlarged(sample.lr.shape[:2], scale)
            for cut in cuts:
                sheets.check_cut(cut, size)
            results = {}
            for method in methods:

                def compute(
                    method: Method = method,
                    lr: NDArray[np.uint8] = sample.lr,
                    hr: NDArray[np.uint8] | None = sample.hr,
                ) -> Arrays:
                    shown = sheets.measure(method, lr, hr, scale)
                    return {
                        key: np.asarray(part) for key, part in shown._asdict().items() if part is not None
                    }

                original = [] if sample.hr is None else [sample.hr]
                key = key_of("compare", method.network or BICUBIC, sample.lr, *original, scale)
                arrays = work.store.get(key, compute)
                scores = [float(arrays[key]) if key in arrays else None for key in ("psnr", "ssim")]
                results[method.name] = sheets.Shown(arrays["pixels"], *scores)
            pictures = [shown.pixels for shown in results.values()]
            if len(pictures) == 1 and sample.hr is not None:
                pictures.append(sample.hr)
            chosen = cuts or [sheets.differing_cut(pictures, side)]
            subjects.append(sheets.Subject(sample.name, sample.lr, sample.hr, results, chosen))
        rows = [
            {
                "picture": subject.name,
                "model": name,
                "psnr_y": shown.psnr,
                "ssim_y": shown.ssim,
                "crops": [cut._asdict() for cut in subject.cuts],
            }
            for subject in subjects
            for name, shown in subject.results.items()
        ]
        for row in rows:
            measured = (
                f" {row['psnr_y']:.2f} dB, SSIM {row['ssim_y']:.4f}" if row["psnr_y"] is not None else ""
            )
            print(f"{row['picture']}: {row['model']}{measured}")
        work.finish(sheets.draw(subjects, scale), rows, **samples.facts)


def _cut(text: str) -> sheets.Cut:
    """What --crop names."""
    numbers = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text)
    if numbers is None:
        raise UsageError(f"--crop {text}: give LEFT,TOP,WIDTH,HEIGHT in px of the enlarged picture")
    left, top, width, height = map(int, numbers.groups())
    return sheets.Cut(top, left, height, width)
