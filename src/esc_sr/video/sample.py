"""A few frames of a video through the network, to see what it makes of them before hours of work."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esc_sr.bicubic import resize
from esc_sr.errors import UsageError, VideoError
from esc_sr.image import Picture, identity, to_rgb8, write_image
from esc_sr.image.sheet import Panel, stacked, strip
from esc_sr.upscaling.names import Names
from esc_sr.upscaling.outputs import check_target
from esc_sr.upscaling.sizes import Size
from esc_sr.video.clip import Clip, Frames
from esc_sr.video.look import has_alpha, to_rgb

if TYPE_CHECKING:
    from esc_sr.upscaling.engine import Upscaler

_SHEET = "sheet"


class SampleFrame(NamedTuple):
    """A frame before and after, upright: its number, its time in seconds, pixels (H, W, C)."""

    number: int
    time: Fraction
    before: NDArray[Any]
    after: NDArray[Any]


def parse_numbers(text: str) -> list[int]:
    """Numbers of frames from a text such as "12,40", each once, ascending.

    Raises:
        UsageError: It is no such text.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"--frames {text}: write numbers with commas, such as 12,40; the first frame is 0")
    return sorted({int(part) for part in parts})


def find_pictures(
    source: Path, output: str | None, size: Size, numbers: Sequence[int], sheet: bool, overwrite: bool
) -> list[Path]:
    """Where pictures of frames go, one for each or one sheet: beside the video, or in a folder, or a file.

    Raises:
        UsageError: Several go to one file, or it is no PNG by its name, or its folder is missing.
        ImageError: One exists, or its folder is read-only.
    """
    stem = Names(size=size).of(source, "")
    names = [f"{stem}_{part}.png" for part in ([_SHEET] if sheet else numbers)]
    folder = source.parent if output is None else Path(output)
    if output is None or folder.is_dir() or output.endswith("/"):
        targets = [folder / name for name in names]
    elif len(names) == 1 and folder.suffix.lower() == ".png":
        targets = [folder]
    else:
        raise UsageError(f"{output}: {len(names)} pictures need a folder, or one a name that ends in .png")
    if not targets[0].parent.is_dir():
        raise UsageError(f"{targets[0].parent}: no such folder; make it first")
    for target in targets:
        check_target(target, {identity(source)}, overwrite)
    return targets


def enlarge_frames(
    clip: Clip, numbers: Sequence[int], upscaler: "Upscaler", progress: Callable[[float], object]
) -> Iterator[SampleFrame]:
    """Enlarge some frames, counted from 0.

    Args:
        clip: The video.
        numbers: Which frames, ascending.
        upscaler: The network.
        progress: Is told how much of all of them is done, 0 to 1.

    Raises:
        VideoError: The video ends before the last of them, or cannot be read.
        WeightsError: The network gives values that are not finite.
        DeviceError: Neither memory nor disk suffices.
    """
    wanted, done, number = set(numbers), 0, -1
    for number, frame in enumerate(Frames(clip)):
        if number not in wanted:
            continue
        assert frame.pts is not None
        pixels = to_rgb(frame, clip.look, has_alpha(clip.look.format))
        larger = upscaler.upscale(pixels, partial(_tell, progress, done, len(wanted)))
        done += 1
        time = (frame.pts - clip.origin) * clip.time_base
        yield SampleFrame(
            number, time, *(upright(image, clip.look.orientation) for image in (pixels, larger))
        )
        if done == len(wanted):
            return
    raise VideoError(f"{clip.path}: has {number + 1} frames, from 0 to {number}; there is no {max(wanted)}")


def _tell(progress: Callable[[float], object], done: int, count: int, part: float) -> None:
    """Say how much of some frames is done."""
    progress((done + part) / count)


def write_frames(
    frames: Iterator[SampleFrame], targets: Sequence[Path], sheet: bool, label: str, overwrite: bool
) -> list[SampleFrame]:
    """Write each frame as PNG, or one sheet of the places where the network and bicubic differ most.

    Args:
        frames: The frames.
        targets: As `find_pictures` gives them.
        sheet: Whether there is one sheet.
        label: What stands above the network's.
        overwrite: Replace what exists.

    Returns:
        The frames.

    Raises:
        ImageError: A picture cannot be written.
    """
    seen, strips = [], []
    for place, frame in enumerate(frames):
        seen.append(frame)
        if sheet:
            strips.append(_strip(frame, label))
        else:
            write_image(Picture(frame.after), targets[place], overwrite=overwrite)
    if sheet:
        write_image(Picture(stacked(strips)), targets[0], overwrite=overwrite)
    return seen


def _strip(frame: SampleFrame, label: str) -> NDArray[np.uint8]:
    """A row of the sheet."""
    after = to_rgb8(Picture(frame.after))
    before = resize(to_rgb8(Picture(frame.before)), (after.shape[0], after.shape[1]))
    return strip(
        [Panel(f"frame {frame.number}, bicubic", before), Panel(f"{float(frame.time):.3f} s, {label}", after)]
    )


def upright(pixels: NDArray[Any], orientation: tuple[int, ...] | None) -> NDArray[Any]:
    """Pixels turned and mirrored as a player does, by quarters; other angles stay as they are."""
    if orientation is None:
        return pixels
    across, across_down, down_across, down = (orientation[place] for place in (0, 1, 3, 4))
    if across_down and down_across and not across and not down:
        pixels, across, down = pixels.swapaxes(0, 1), down_across, across_down
    elif across_down or down_across:
        return pixels
    pixels = pixels[:, ::-1] if across < 0 else pixels
    return np.ascontiguousarray(pixels[::-1] if down < 0 else pixels)
