"""`esc-sr compare`: numbers for two picture files, or for one alone."""

from pathlib import Path
from typing import Annotated

import typer

from esc_sr.cli.output import AsJson, print_json
from esc_sr.image import read_image, to_rgb8
from esc_sr.metrics import compare as measure
from esc_sr.metrics import luma
from esc_sr.niqe import load_niqe, niqe

NiqeParameters = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="NIQE's natural statistics, .npz or .safetensors, such as the authors' (by default our own).",
    ),
]
_NAMES = {"psnr": "PSNR on Y, dB", "ssim": "SSIM on Y", "rgb_psnr": "PSNR on RGB, dB", "niqe": "NIQE on Y"}


def compare(
    sr: Annotated[Path, typer.Argument(metavar="SR", help="Picture to measure.")],
    hr: Annotated[
        Path | None,
        typer.Argument(metavar="HR", help="What it should be. Without it: NIQE, lower is better."),
    ] = None,
    border: Annotated[int, typer.Option(help="Pixels cut off every side; by convention the scale.")] = 0,
    niqe_parameters: NiqeParameters = None,
    as_json: AsJson = False,
) -> None:
    """Measure a picture against its original (PSNR, SSIM), or alone (NIQE).

    To see results of networks side by side: esc-sr analyze compare.
    """
    if hr is None:
        natural = load_niqe(niqe_parameters) if niqe_parameters else None
        scores = {"niqe": niqe(luma(to_rgb8(read_image(sr))), border, natural)}
    else:
        scores = measure(sr, hr, border)._asdict()
    if as_json:
        print_json({"sr": str(sr), "hr": hr and str(hr), "border": border, **scores})
        return
    for name, value in scores.items():
        print(f"{_NAMES[name]:<15} {value:.4f}")
