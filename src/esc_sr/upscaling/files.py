"""Picture files in, picture files out: which becomes which, and one at a time.

Needs no torch, so that mistakes on the command line show before it is imported.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from esc_sr.errors import EscError, ImageError, UsageError
from esc_sr.image import (
    ANIMATED,
    FORMATS,
    MAX_SIDE,
    Animation,
    Encoding,
    format_of,
    identity,
    read_animation,
    read_image,
    write_image,
)
from esc_sr.machine.claim import Claim
from esc_sr.machine.memory import enough_memory
from esc_sr.upscaling import DEFAULT_NAME, FractionDone
from esc_sr.upscaling.folders import Found, find_inputs
from esc_sr.upscaling.names import Names

if TYPE_CHECKING:
    from esc_sr.upscaling.engine import Upscaler


class Job(NamedTuple):
    """One picture file to upscale, and the file to write."""

    source: Path
    target: Path


class Outcome(NamedTuple):
    """What became of one input.

    Attributes:
        source: The input.
        target: The output, if there was to be one.
        status: "done", "skipped" or "failed".
        reason: Why it was skipped, or how it failed, in one line.
        size: Height and width of the input in pixels, once that was read.
        target_size: Those of the output, once it was computed.
        seconds: How long reading, computing and writing took, together; waiting does not count.
        notes: What of the picture was converted or left out, in a line each.
    """

    source: Path
    target: Path | None
    status: str
    reason: str = ""
    size: tuple[int, int] | None = None
    target_size: tuple[int, int] | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


EXISTS = "the output exists already"
CLAIMED = "another run is making the output"
"""Why a picture is skipped."""


class Todo(NamedTuple):
    """What a run will do.

    Attributes:
        jobs: What it upscales, in order.
        settled: The inputs of which it is already known that they fail or are skipped.
        left_out: Pictures in the input folders that are taken for outputs of an earlier run.
    """

    jobs: list[Job]
    settled: list[Outcome]
    left_out: list[Path]


Existing = Literal["refuse", "overwrite", "skip"]
"""What happens where an output exists: an error, a new output, or nothing."""


def find_jobs(
    inputs: Sequence[Path],
    output: str | None,
    names: Names,
    format: str | None = None,
    existing: Existing = "refuse",
) -> Todo:
    """Decide which file becomes which, before any work; nothing is written.

    Outputs lie beside their input, or in the output folder, in the same subfolder as their input. A picture
    found in a folder that has the place and name of another input's output is taken for just that, and left
    out. An output folder inside an input folder is left out as a whole.

    Args:
        inputs: Files, and folders, as `find_inputs` takes them.
        output: A folder if it is one, ends in a slash, or there are several inputs or a folder as input (it
            may be new, its parent may not); otherwise a file. None: beside each input.
        names: What the outputs in folders are called.
        format: Suffix of the outputs without its dot; by default that of each input.
        existing: What happens where an output exists; an input is never overwritten.

    Raises:
        UsageError: No such format, the output cannot be what it has to be, or two inputs become one file.
        ImageError: The output folder is missing or read-only.
    """
    if format is not None and f".{format.lower()}" not in FORMATS:
        raise UsageError(f"no format is called {format!r}; use {', '.join(suffix[1:] for suffix in FORMATS)}")
    as_folder = output is not None and _is_folder(output, inputs)
    if output is not None:
        _check_output(Path(output), as_folder, format)
        if not as_folder and names.template != DEFAULT_NAME:
            raise UsageError(f"{output}: a file, whose name no template can make; leave out one of the two")
    folder = Path(output) if output is not None and as_folder else None
    found, problems = find_inputs(inputs, folder)
    settled = [Outcome(path, None, "failed", reason) for path, reason in problems]
    jobs: list[tuple[Found, Job]] = []
    for picture in found:
        try:
            name = names.of(picture.path, f".{format}" if format else picture.path.suffix)
        except EscError as error:
            settled.append(Outcome(picture.path, None, "failed", str(error)))
            continue
        beside = picture.path.with_name(name) if output is None else Path(output)
        jobs.append((picture, Job(picture.path, folder / picture.below / name if folder else beside)))
    wanted, left_out = _distinct(jobs)
    taken = {identity(job.source) for job in wanted}
    feasible = []
    for job in wanted:
        try:
            if existing == "skip" and job.target.is_file() and not _is_same(job):
                settled.append(Outcome(*job, "skipped", EXISTS))
            else:
                _check_target(job.target, taken, existing == "overwrite")
                feasible.append(job)
        except EscError as error:
            settled.append(Outcome(*job, "failed", str(error)))
        except OSError as error:
            settled.append(Outcome(*job, "failed", f"{job.target}: cannot be written ({error.strerror})"))
    return Todo(feasible, settled, left_out)


def read_source(job: Job, allow_large: bool, notify: Callable[[str], object]) -> Animation:
    """Read all that the output can hold of an input.

    Args:
        job: What becomes what.
        allow_large: Decode even more than `esc_sr.image.MAX_PIXELS`.
        notify: Is told, in one line, what is left out.

    Raises:
        ImageError: The picture cannot be read.
        DeviceError: It does not fit into memory.
    """
    with enough_memory(str(job.source)):
        if format_of(job.target) in ANIMATED:
            return read_animation(job.source, allow_large=allow_large, notify=notify)
        return Animation([read_image(job.source, allow_large=allow_large, notify=notify)], [], 0)


def claim_target(job: Job) -> Claim:
    """Claim an output, in a folder that is made if it is new.

    Raises:
        ImageError: Another process is making it, or the disk refuses.
    """
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        return Claim(job.target)
    except OSError as error:
        raise ImageError(f"cannot write {job.target}: {error.strerror}") from error


def enlarge(
    job: Job, source: Animation, upscaler: "Upscaler", progress: FractionDone = lambda done: None
) -> Animation:
    """Upscale each frame.

    Args:
        job: What becomes what.
        source: What was read.
        upscaler: The network.
        progress: Is told how much is done, from 0 to 1.

    Raises:
        ImageError: The output cannot hold so large a picture.
        DeviceError: The picture does not fit into memory.
        UsageError: The size that is wished is smaller than the picture, or too large for the network.
        WeightsError: The network gives values that are not finite.
    """
    kind, frames = format_of(job.target), []
    try:
        longest = max(upscaler.size.target(*size_of(source)))
        if longest > MAX_SIDE.get(kind, longest):
            raise ImageError(f"{kind} holds no side of {longest} pixels; choose png or tiff")
        for place, frame in enumerate(source.frames):
            part = partial(lambda place, done: progress((place + done) / len(source.frames)), place)
            frames.append(upscaler.upscale(frame, part))
    except EscError as error:
        raise type(error)(f"{job.source}: {error}") from error
    return replace(source, frames=frames)


def write_result(
    job: Job,
    result: Animation,
    claim: Claim,
    overwrite: bool,
    encoding: Encoding,
    notify: Callable[[str], object],
) -> None:
    """Write an output that is claimed.

    Args:
        job: What becomes what.
        result: The enlarged frames.
        claim: Of `claim_target`.
        overwrite: The output may exist.
        encoding: How it is encoded.
        notify: Is told, in one line, what is converted or left out.

    Raises:
        ImageError: The output exists, or the disk refuses.
    """
    with enough_memory(str(job.source)):
        write_image(result, job.target, overwrite=overwrite, encoding=encoding, notify=notify, claim=claim)


def size_of(picture: Animation) -> tuple[int, int]:
    """Height and width in pixels."""
    height, width, _ = picture.frames[0].pixels.shape
    return height, width


def show_size(size: tuple[int, int]) -> str:
    """Write height and width as people read them, the width first: "640x480"."""
    return f"{size[1]}x{size[0]}"


def _distinct(jobs: list[tuple[Found, Job]]) -> tuple[list[Job], list[Path]]:
    """Part the jobs from the pictures that are outputs of others; no two may have one target."""
    true_folder = cache(os.path.realpath)

    def place(path: Path) -> Path:
        return Path(true_folder(path.parent), path.name)

    outputs = {place(job.target) for _, job in jobs if place(job.target) != place(job.source)}
    wanted: dict[Path, Job] = {}
    left_out = []
    for picture, job in jobs:
        if not picture.named and place(job.source) in outputs:
            left_out.append(job.source)
            continue
        first = wanted.setdefault(place(job.target), job)
        if first is not job:
            raise UsageError(
                f"{first.source} and {job.source} would both become {job.target}; do one at a time"
            )
    return list(wanted.values()), left_out


def _is_folder(output: str, inputs: Sequence[Path]) -> bool:
    """Whether an output is a folder, which it may yet have to become."""
    return (
        len(inputs) > 1 or os.path.isdir(inputs[0]) or os.path.isdir(output) or output.endswith(("/", os.sep))
    )


def _check_output(output: Path, as_folder: bool, format: str | None) -> None:
    """Refuse an output that cannot become the folder or the file that it has to be."""
    if as_folder and os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"{output}: a file, but the output has to be a folder here; name another")
    if not as_folder:
        if output.suffix.lower() not in FORMATS:
            raise UsageError(
                f"{output}: neither a folder (ends in /) nor a picture (ends in {', '.join(FORMATS)})"
            )
        if format is not None and format_of(output) != FORMATS[f".{format.lower()}"]:
            raise UsageError(f"{output}: not the name of a {format} file; leave out one of the two")
    _check_folder(output if os.path.isdir(output) else output.parent)


def _check_folder(folder: Path) -> None:
    """Refuse a folder in which nothing can be written."""
    if not os.path.isdir(folder):
        raise ImageError(f"{folder}: no such folder; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ImageError(f"{folder}: no permission to write in this folder; name another output")


def _check_target(target: Path, taken: set[tuple[int, int]], overwrite: bool) -> None:
    """Refuse a target that must not, or cannot, be written."""
    if target.exists() and identity(target) in taken:
        raise ImageError(
            f"{target}: is an input itself, and inputs are never overwritten; name another output"
        )
    if os.path.lexists(target) and not overwrite:
        raise ImageError(f"{target}: exists already; --overwrite replaces it")
    if target.parent.is_dir():
        _check_folder(target.parent)


def _is_same(job: Job) -> bool:
    """Whether the output is the input itself."""
    return identity(job.source) == identity(job.target)
