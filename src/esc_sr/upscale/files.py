"""Picture files in, picture files out: which becomes which, and one at a time.

Needs no torch, so that mistakes on the command line show before it is imported.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from esc_sr.errors import EscError, ImageError, UsageError
from esc_sr.image import (
    ANIMATED,
    FORMATS,
    MAX_SIDE,
    Animation,
    Encoding,
    format_of,
    read_animation,
    read_image,
    write_image,
)
from esc_sr.upscale.memory import enough_memory
from esc_sr.upscale.sizes import Size, as_size

if TYPE_CHECKING:
    from esc_sr.upscale.engine import Upscaler


class Job(NamedTuple):
    """One picture file to upscale, and the file to write."""

    source: Path
    target: Path


class Plan(NamedTuple):
    """What a run will do: its jobs in order, and one line for each input that cannot be upscaled."""

    jobs: list[Job]
    problems: list[str]


def plan(
    inputs: Sequence[Path],
    output: str | None,
    scale: float | Size,
    format: str | None = None,
    overwrite: bool = False,
) -> Plan:
    """Decide which file becomes which, before any work; nothing is written.

    Outputs are called photo_2x, photo_2.5x or photo_1920px (`Size.label`), and lie beside their input, or
    in the output folder.

    Args:
        inputs: Files, and folders whose picture files are taken (sorted; neither hidden ones nor subfolders).
        output: A folder if it is one, ends in a slash, or there are several inputs or a folder as input (it
            may be new, its parent may not); otherwise a file. None: beside each input.
        scale: What they become, for the names.
        format: Suffix of the outputs without its dot; by default that of each input.
        overwrite: An output may exist, unless it is one of the inputs.

    Raises:
        UsageError: No such format, the output cannot be what it has to be, or two inputs become one file.
        ImageError: The output folder is missing or read-only.
    """
    if format is not None and f".{format.lower()}" not in FORMATS:
        raise UsageError(f"no format is called {format!r}; use {', '.join(suffix[1:] for suffix in FORMATS)}")
    as_folder = output is not None and _is_folder(output, inputs)
    if output is not None:
        _check_output(Path(output), as_folder, format)
    sources, problems = _find(inputs)
    jobs: dict[Path, Job] = {}
    for source in dict.fromkeys(sources):  # one that is named twice is done once
        target = source.with_name(
            f"{source.stem}_{as_size(scale).label}{f'.{format}' if format else source.suffix}"
        )
        if output is not None:
            target = Path(output, target.name) if as_folder else Path(output)
        job = jobs.setdefault(Path(os.path.realpath(target.parent), target.name), Job(source, target))
        if job.source != source:
            raise UsageError(f"{job.source} and {source} would both become {target}; do one at a time")
    taken = {_identity(source) for source in sources}
    feasible = []
    for job in jobs.values():
        try:
            _check_target(job.target, taken, overwrite)
            feasible.append(job)
        except EscError as error:
            problems.append(str(error))
    return Plan(feasible, problems)


def upscale_file(
    job: Job,
    upscaler: "Upscaler",
    overwrite: bool = False,
    encoding: Encoding = Encoding(),
    allow_large: bool = False,
    notify: Callable[[str], object] = warnings.warn,
) -> tuple[str, str]:
    """Read, upscale and write one picture; the output folder is made if it is new.

    An animation is done frame by frame, if the output can hold one.

    Args:
        job: What becomes what.
        upscaler: The network.
        overwrite: The output may exist.
        encoding: How it is encoded.
        allow_large: Decode even more than `esc_sr.image.MAX_PIXELS`.
        notify: Is told, in one line, what of the picture is converted or left out.

    Returns:
        Sizes before and after in pixels, such as "640x480".

    Raises:
        ImageError: The picture cannot be read, or the result not written.
        DeviceError: The picture does not fit into memory.
        UsageError: The size that is wished is smaller than the picture, or too large for the network.
        WeightsError: The network gives values that are not finite.
    """
    with enough_memory(str(job.source)):
        kind = format_of(job.target)
        if kind in ANIMATED:
            source = read_animation(job.source, allow_large=allow_large, notify=notify)
        else:
            source = Animation([read_image(job.source, allow_large=allow_large, notify=notify)], [], 0)
        height, width, _ = source.frames[0].pixels.shape
        try:
            longest = max(upscaler.size.target(height, width))
            if longest > MAX_SIDE.get(kind, longest):
                raise ImageError(f"{kind} holds no side of {longest} pixels; choose png or tiff")
            result = replace(source, frames=[upscaler.upscale(frame) for frame in source.frames])
        except EscError as error:
            raise type(error)(f"{job.source}: {error}") from error
        try:
            job.target.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise ImageError(f"{job.target.parent}: cannot be made ({error.strerror})") from error
        write_image(result, job.target, overwrite=overwrite, encoding=encoding, notify=notify)
    height_after, width_after, _ = result.frames[0].pixels.shape
    return f"{width}x{height}", f"{width_after}x{height_after}"


def _find(inputs: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The picture files that the inputs stand for, and what is wrong with the others."""
    sources, problems = [], []
    for given in inputs:
        try:
            sources += _pictures(given)
        except EscError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{given}: cannot be read ({error.strerror})")
    return sources, problems


def _pictures(given: Path) -> list[Path]:
    """The picture files of a folder, or the file itself."""
    if given.is_dir():
        visible = (path for path in sorted(given.iterdir()) if not path.name.startswith("."))
        if found := [path for path in visible if path.suffix.lower() in FORMATS and path.is_file()]:
            return found
        raise UsageError(
            f"{given}: no picture in this folder; {', '.join(FORMATS)} are read, subfolders are not"
        )
    if not given.is_file():
        raise ImageError(f"{given}: no such file or folder")
    format_of(given)
    return [given]


def _is_folder(output: str, inputs: Sequence[Path]) -> bool:
    """Whether an output is a folder, which it may yet have to become."""
    return len(inputs) > 1 or inputs[0].is_dir() or os.path.isdir(output) or output.endswith(("/", os.sep))


def _check_output(output: Path, as_folder: bool, format: str | None) -> None:
    """Refuse an output that cannot become the folder or the file that it has to be."""
    if as_folder and output.exists() and not output.is_dir():
        raise UsageError(f"{output}: a file, but the output has to be a folder here; name another")
    if not as_folder:
        if output.suffix.lower() not in FORMATS:
            raise UsageError(
                f"{output}: neither a folder (ends in /) nor a picture (ends in {', '.join(FORMATS)})"
            )
        if format is not None and format_of(output) != FORMATS[f".{format.lower()}"]:
            raise UsageError(f"{output}: not the name of a {format} file; leave out one of the two")
    _check_folder(output if output.is_dir() else output.parent)


def _check_folder(folder: Path) -> None:
    """Refuse a folder in which nothing can be written."""
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ImageError(f"{folder}: no permission to write in this folder; name another output")


def _check_target(target: Path, taken: set[tuple[int, int]], overwrite: bool) -> None:
    """Refuse a target that must not, or cannot, be written."""
    if target.exists() and _identity(target) in taken:
        raise ImageError(
            f"{target}: is an input itself, and inputs are never overwritten; name another output"
        )
    if os.path.lexists(target) and not overwrite:
        raise ImageError(f"{target}: exists already; --overwrite replaces it")
    if target.parent.is_dir():
        _check_folder(target.parent)


def _identity(path: Path) -> tuple[int, int]:
    """What two names of one file have in common."""
    status = path.stat()
    return status.st_dev, status.st_ino
