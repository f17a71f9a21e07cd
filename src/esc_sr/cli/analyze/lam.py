"""`esc-sr analyze lam`: which pixels a patch is made from."""

import re
from math import lcm
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from esc_sr.analysis import lam as lams
from esc_sr.analysis.store import Arrays, key_of
from esc_sr.bicubic import downscale, enlarged
from esc_sr.cli.analyze.work import FigureFile, OneScale, SeveralModels, analysis, load_all
from esc_sr.cli.options import Device, Threads
from esc_sr.cli.output import AsJson
from esc_sr.cli.report import counter
from esc_sr.errors import UsageError
from esc_sr.evaluate.scores import bicubic, predict
from esc_sr.families.contract import Network
from esc_sr.image import read_image, to_rgb8

LrFile = Annotated[
    Path | None, typer.Argument(metavar="[PICTURE]", help="LR picture; without it one is made from --hr.")
]
HrFile = Annotated[Path | None, typer.Option("--hr", metavar="FILE", help="The original, to be shown.")]


def lam(
    picture: LrFile = None,
    hr: HrFile = None,
    model: SeveralModels = None,
    scale: OneScale = None,
    output: FigureFile = Path("lam.png"),
    patch: Annotated[
        str,
        typer.Option(
            metavar="auto|LEFT,TOP[,SIDE]",
            help="Of the enlarged picture, px; auto: where the networks differ most, or one from bicubic.",
        ),
    ] = "auto",
    sigma: Annotated[float, typer.Option(help="Of the blur at the beginning, LR px.")] = 1.2,
    blur_side: Annotated[int, typer.Option(help="Of the blur's window, odd, px.")] = 9,
    steps: Annotated[int, typer.Option(help="From blurred to sharp.")] = 50,
    cutout: Annotated[
        int,
        typer.Option(min=16, help="Of LR around the patch that is looked at, px; the index depends on it."),
    ] = lams.CUTOUT,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Map which LR pixels a patch is made from, with the diffusion index (Figure 7)."""
    path = lams.BlurPath(sigma, blur_side, steps)
    with analysis("lam", output, as_json, threads, device) as work:
        networks, scale = load_all(model or ["esc-light"], scale, work.device)
        lr, original = read_pair(picture, hr, scale)
        chosen = _patch(patch, lr, networks, scale)
        whole = lcm(*(network.window for network in networks.values()))
        cut, inside = lams.cut_around(lr, chosen, scale, cutout, whole)
        found = {}
        for name, network in networks.items():
            lams.check_patch(inside, enlarged(cut.shape[:2], scale))

            def compute(name: str = name, network: Network = network) -> Arrays:
                one = lams.measure(
                    network, cut, inside, scale=scale, path=path, progress=counter(f"{name}, steps")
                )
                return {key: np.asarray(value) for key, value in one._asdict().items()}

            key = key_of("lam", network, cut, list(inside), scale, [sigma, blur_side, steps])
            arrays = work.store.get(key, compute)
            ends = float(arrays["blurred"]), float(arrays["sharp"])
            found[name] = lams.Attribution(arrays["pixels"], *ends, arrays["sr"])
        rows = [
            {
                "model": name,
                "diffusion_index": lams.diffusion_index(one.map),
                "area": float(lams.contributing(one.map).mean()),
                "edges_blurred": one.blurred,
                "edges_sharp": one.sharp,
                "error": one.error,
                "map": one.map.tolist(),
            }
            for name, one in found.items()
        ]
        for row in rows:
            print(
                f"{row['model']}: diffusion index {row['diffusion_index']:.2f}, 95 % from "
                f"{100 * row['area']:.1f} % of the pixels, error of the steps {100 * row['error']:.2g} %"
            )
        top, left = chosen.top - inside.top, chosen.left - inside.left
        height, width = enlarged(cut.shape[:2], scale)
        seen = None if original is None else original[top : top + height, left : left + width]
        facts = {
            "scale": scale,
            "patch": chosen._asdict(),
            "sigma": sigma,
            "blur_side": blur_side,
            "steps": steps,
        }
        facts["cutout"] = {
            "top": top // scale,
            "left": left // scale,
            "height": len(cut),
            "width": cut.shape[1],
        }
        work.finish(lams.draw(cut, inside, found, scale, seen), rows, **facts)


def read_pair(
    picture: Path | None, hr: Path | None, scale: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """LR, and the original cut to what LR is enlarged to.

    Raises:
        UsageError: There is neither, or they do not fit.
        ImageError: A file cannot be read.
    """
    if picture is None and hr is None:
        raise UsageError("give a LR picture, or an original as --hr FILE, or both")
    original = None if hr is None else to_rgb8(read_image(hr))
    lr = (
        to_rgb8(read_image(picture))
        if picture
        else downscale(original, scale)
        if original is not None
        else None
    )
    assert lr is not None
    if original is not None:
        height, width = enlarged(lr.shape[:2], scale)
        if not (0 <= original.shape[0] - height < scale and 0 <= original.shape[1] - width < scale):
            sizes = (f"{size[1]} x {size[0]}" for size in (original.shape, lr.shape))
            raise UsageError(
                f"{hr} is {next(sizes)} px, and {picture} {next(sizes)}, which x{scale} does not make"
            )
        original = original[:height, :width]
    return lr, original


def _patch(text: str, lr: NDArray[np.uint8], networks: dict[str, Network], scale: int) -> lams.Patch:
    """The patch that an option names, in the enlarged picture."""
    if text != "auto":
        numbers = re.fullmatch(r"(\d+),(\d+)(?:,(\d+))?", text)
        if numbers is None:
            raise UsageError(
                f"--patch {text}: give auto, or LEFT,TOP or LEFT,TOP,SIDE in px of the enlarged picture"
            )
        left, top, side = numbers.groups()
        patch = lams.Patch(int(top), int(left), int(side or lams.SIDE))
        lams.check_patch(patch, enlarged(lr.shape[:2], scale))
        return patch
    results = []
    show = counter("enlarged to compare")
    for done, network in enumerate(networks.values()):
        show(done, len(networks))
        results.append(np.asarray(predict(network, lr, scale)).astype(np.uint8))
    show(len(networks), len(networks))
    return lams.differing_patch(results if len(results) > 1 else [*results, bicubic(lr, scale)])
