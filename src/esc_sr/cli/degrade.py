"""`esc-sr degrade`: what the real-world recipe makes of pictures, to look at."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from esc_sr.data.degrade import Degradation
from esc_sr.data.degrade import degrade as degrade_batch
from esc_sr.data.degraded import to_network, to_pixels
from esc_sr.data.pictures import find_pictures
from esc_sr.errors import ImageError, UsageError
from esc_sr.image import Picture, read_image, to_rgb8, write_image
from esc_sr.image.sheet import Panel, repeated, stacked, strip

SHEET = "sheet.png"
CROP = 256  # px of HR that a sheet shows of each picture


def degrade(
    inputs: Annotated[list[Path], typer.Argument(metavar="IN", help="Picture files, and folders of them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write into; made if missing.")],
    count: Annotated[int, typer.Option(min=1, help="Samples per picture.")] = 4,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same samples.")
    ] = 0,
    scale: Annotated[int, typer.Option(min=1, help="How much smaller the samples are.")] = 4,
    sheet: Annotated[
        bool, typer.Option("--sheet", help=f"Also {SHEET}: the middle of each picture beside its samples.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Make low-resolution samples by the real-world degradation: photo_0.png, photo_1.png, ..."""
    settings = Degradation(scale=scale)
    sources = _sources(inputs, output, count, sheet, overwrite)
    strips: list[NDArray[np.uint8]] = []
    for source in sources:
        hr = to_rgb8(read_image(source))
        height, width = (side // scale * scale for side in hr.shape[:2])
        if min(height, width) == 0:
            raise ImageError(f"{source}: {hr.shape[1]} x {hr.shape[0]} px, a side must be at least {scale}")
        hr = hr[:height, :width]
        generator = torch.Generator().manual_seed(seed)  # a picture's samples do not depend on the others
        x = to_network(torch.from_numpy(hr[None].copy()), torch.device("cpu"))
        samples = [to_pixels(degrade_batch(x, settings, generator)) for _ in range(count)]
        for number, sample in enumerate(samples):
            target = _target(output, source, number)
            write_image(Picture(sample), target, overwrite=overwrite)
            print(f"{source} {width} x {height} -> {target} {sample.shape[1]} x {sample.shape[0]}")
        if sheet:
            strips.append(_strip(source, hr, samples, scale))
    if strips:
        write_image(Picture(stacked(strips)), output / SHEET, overwrite=overwrite)
        print(f"{output / SHEET}")


def _sources(inputs: list[Path], output: Path, count: int, sheet: bool, overwrite: bool) -> list[Path]:
    """The pictures to degrade; what cannot work is refused before the first one, and the folder made."""
    if missing := [path for path in inputs if not path.exists()]:
        raise UsageError(f"{missing[0]}: no such picture or folder")
    sources = [picture for path in inputs for picture in (_files_in(path) if path.is_dir() else [path])]
    targets: dict[Path, Path] = {output / SHEET: Path(SHEET)} if sheet else {}
    for source in sources:
        for number in range(count):
            target = _target(output, source, number)
            if target in targets:
                raise UsageError(
                    f"{targets[target]} and {source} would both become {target}; do one at a time"
                )
            targets[target] = source
    if not overwrite and (there := [target for target in targets if target.exists()]):
        raise UsageError(f"{there[0]} exists already; give --overwrite, or another folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {output}: cannot be made ({error.strerror})") from error
    return sources


def _files_in(folder: Path) -> list[Path]:
    """The pictures of a folder, without those in shards."""
    return [entry.path for entry in find_pictures(folder) if entry.path.suffix.lower() != ".tar"]


def _target(output: Path, source: Path, number: int) -> Path:
    """The file of a sample."""
    return output / f"{source.stem}_{number}.png"


def _strip(
    source: Path, hr: NDArray[np.uint8], samples: list[NDArray[np.uint8]], scale: int
) -> NDArray[np.uint8]:
    """The middle of a picture and of its samples, enlarged to its size, beside each other."""
    height, width = (min(side, max(CROP // scale, 1)) for side in samples[0].shape[:2])
    top, left = (samples[0].shape[0] - height) // 2, (samples[0].shape[1] - width) // 2
    middle = hr[scale * top : scale * (top + height), scale * left : scale * (left + width)]
    panels = [Panel(source.stem, middle)]
    for number, sample in enumerate(samples):
        crop = sample[top : top + height, left : left + width]
        panels.append(Panel(_target(Path(), source, number).stem, repeated(crop, scale)))
    return strip(panels, CROP, zoom=1)
