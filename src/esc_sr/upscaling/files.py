"""Picture files in, picture files out: which becomes which, and one at a time.

Needs no torch, so that mistakes on the command line show before it is imported.
"""

import sys
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from esc_sr.errors import EscError, ImageError, UsageError
from esc_sr.image import (
    ANIMATED,
    MAX_SIDE,
    READ_ONLY,
    Animation,
    Encoding,
    Header,
    decode_animation,
    decode_header,
    decode_image,
    encode_image,
    format_of,
)
from esc_sr.machine.claim import Claim
from esc_sr.machine.memory import enough_memory
from esc_sr.remote import Address, RemoteClaim
from esc_sr.upscaling import DEFAULT_NAME, FractionDone
from esc_sr.upscaling.folders import Found, expand, find_inputs
from esc_sr.upscaling.names import Names
from esc_sr.upscaling.outputs import (
    check_format,
    check_output,
    check_target,
    has_to_be_folder,
    suffix_of_output,
)
from esc_sr.upscaling.places import (
    Place,
    by_name,
    bytes_in,
    claim,
    clear,
    header_in,
    identity_of,
    is_one_of,
    known_files,
    looked_at,
    place_of,
    write,
)
from esc_sr.upscaling.work import limit_work

if TYPE_CHECKING:
    from esc_sr.upscaling.engine import Upscaler


class Job(NamedTuple):
    """One picture file to upscale, and the file to write.

    Attributes:
        source: The input, a path or an address; what to call it, where `data` is given.
        target: The output; its format and what to call it, where it goes to standard output.
        data: The bytes of the input, if it is standard input.
        to_stdout: Whether the output is standard output.
    """

    source: Place
    target: Place
    data: bytes | None = None
    to_stdout: bool = False


class Outcome(NamedTuple):
    """What became of one input.

    Attributes:
        source: The input; as it was named, without secrets, where that is not known.
        target: The output, if there was to be one.
        status: "done", "skipped" or "failed".
        reason: Why it was skipped, or how it failed, in one line.
        size: Height and width of the input in pixels, once that was read.
        target_size: Those of the output, once it was computed.
        seconds: How long reading, computing and writing took, together; waiting does not count.
        notes: What of the picture was converted or left out, in a line each.
    """

    source: Place | str
    target: Place | None
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
        others: How many files in the input folders are no pictures, by their kind.
    """

    jobs: list[Job]
    settled: list[Outcome]
    left_out: list[Place]
    others: Mapping[str, int] = MappingProxyType({})


Existing = Literal["refuse", "overwrite", "skip"]
"""What happens where an output exists: an error, a new output, or nothing."""


def find_jobs(
    inputs: Sequence[str | Place],
    output: str | None,
    names: Names,
    format: str | None = None,
    existing: Existing = "refuse",
    alone: bool = False,
) -> Todo:
    """Decide which file becomes which, before any work; nothing is written, but remains of killed runs go.

    Outputs lie beside their input, or in the output folder, in the same subfolder as their input. A picture
    found in a folder that has the place and name of another input's output is taken for just that, and left
    out. An output folder inside an input folder is left out as a whole.

    Args:
        inputs: Files, and folders, as `find_inputs` takes them; text may be what `expand` takes.
        output: A folder if it is one, ends in a slash, or there are several inputs or a folder as input (it
            may be new, its parent may not); otherwise a file. None: beside each input.
        names: What the outputs in folders are called.
        format: Suffix of the outputs without its dot; by default that of each input, or png.
        existing: What happens where an output exists; an input is never overwritten.
        alone: A second input for an output fails by itself, as one of a read-only format does in any case.

    Raises:
        UsageError: No such format, the output cannot be what it has to be, or two inputs become one file.
        ImageError: The output folder is missing or read-only.
    """
    check_format(format)
    paths, unusable = expand(inputs)
    goal = None if output is None else place_of(output)
    folder: Place | None = None
    if output is not None and goal is not None:
        goal = looked_at(goal) or goal
        as_folder = has_to_be_folder(output, goal, paths)
        check_output(goal, as_folder, format)
        if not as_folder and names.template != DEFAULT_NAME:
            raise UsageError(f"{goal}: a file, whose name no template can make; leave out one of the two")
        folder = goal if as_folder else None
    found, problems, others = find_inputs(paths, folder)
    settled = [Outcome(path, None, "failed", reason) for path, reason in (*unusable, *problems)]
    jobs: list[tuple[Found, Job]] = []
    for picture in found:
        try:
            name = output_name(picture.path, names, format)
            target = folder / picture.below / name if folder else goal or picture.path.with_name(name)
        except EscError as error:
            settled.append(Outcome(picture.path, None, "failed", str(error)))
            continue
        jobs.append((picture, Job(picture.path, target)))
    wanted, left_out, twins = _distinct(jobs, alone)
    settled += twins
    sources: dict[Job, Hashable] = {}
    for job in wanted:
        try:
            sources[job] = identity_of(job.source)
        except OSError as error:  # it has gone since it was found
            reason = f"{job.source}: cannot be read ({error.strerror})"
            settled.append(Outcome(job.source, job.target, "failed", reason))
    taken = set(sources.values())
    there = known_files([job.target for job in sources if existing != "overwrite"], folder)
    feasible = []
    for job in sources:
        outcome = settle(job, taken, existing, there(job.target))
        if outcome is None:
            feasible.append(job)
        else:
            settled.append(outcome)
    return Todo(feasible, settled, left_out, others)


def output_name(source: Place, names: Names, format: str | None) -> str:
    """What the output of a picture is called, by default in the picture's format; errors of `Names.of`."""
    return names.of(source, f".{format}" if format else suffix_of_output(source))


def settle(job: Job, taken: Collection[Hashable], existing: Existing, there: bool) -> Outcome | None:
    """What is known of a job before any work: that it fails or is skipped; None if it is to be done.

    Remains of killed runs go.

    Args:
        job: What becomes what.
        taken: The identity of all inputs, which are never overwritten.
        existing: What happens where the output exists.
        there: Whether something has the output's name.
    """
    try:
        clear(job.target)
        if existing == "skip" and is_done(job, there):
            return Outcome(job.source, job.target, "skipped", EXISTS)
        check_target(job.target, taken, existing == "overwrite", there)
        return None
    except EscError as error:
        return Outcome(job.source, job.target, "failed", str(error))
    except OSError as error:
        reason = f"{job.target}: cannot be written ({error.strerror})"
        return Outcome(job.source, job.target, "failed", reason)


def read_source(job: Job, allow_large: bool, notify: Callable[[str], object]) -> Animation:
    """Read all that the output can hold of an input.

    Args:
        job: What becomes what.
        allow_large: Take even more than `work.MAX_WORK`, and decode more than `esc_sr.image.MAX_PIXELS`.
        notify: Is told, in one line, what is left out.

    Raises:
        ImageError: The picture cannot be read.
        DeviceError: It does not fit into memory.
    """
    every = format_of(job.target.name) in ANIMATED
    name = str(job.source)
    with enough_memory(name):
        job = fetched(job)
        if not allow_large:
            frames, height, width, _ = header_of(job)
            limit_work(name, frames if every else 1, height, width)
        data = bytes_in(job.source) if job.data is None else job.data
        if every:
            return decode_animation(data, name, allow_large=allow_large, notify=notify)
        picture = decode_image(data, name, allow_large=allow_large, notify=notify)
        return Animation([picture], [], 0)


def is_elsewhere(job: Job) -> bool:
    """Whether the bytes of an input are in a store, and have yet to be fetched."""
    return job.data is None and isinstance(job.source, Address)


def fetched(job: Job) -> Job:
    """A job with the bytes of its input, if that is in a store.

    Raises:
        ImageError: It cannot be read.
    """
    return job._replace(data=bytes_in(job.source)) if is_elsewhere(job) else job


def header_of(job: Job) -> Header:
    """What the header of an input says; errors as of `image.read_header`."""
    if job.data is None:
        return header_in(job.source)
    return decode_header(memoryview(job.data), str(job.source))


def is_done(job: Job, there: bool) -> bool:
    """Whether an output of a name that is there is a file, and not the input itself."""
    is_output = there and (isinstance(job.target, Address) or job.target.is_file())
    return is_output and not is_one_of(job.target, {identity_of(job.source)})


def claim_target(job: Job) -> Claim | RemoteClaim:
    """Claim an output, in a folder that is made if it is new.

    Raises:
        ImageError: Another process is making it, or the disk or the store refuses.
    """
    try:
        return claim(job.target)
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
    kind, frames = format_of(job.target.name), []
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
    claim: Claim | RemoteClaim | None,
    overwrite: bool,
    encoding: Encoding,
    notify: Callable[[str], object],
) -> None:
    """Write an output that is claimed, or standard output.

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
        if job.to_stdout:
            _write_stdout(encode_image(result, format_of(job.target.name), encoding, notify), job.target)
            return
        write(result, job.target, claim, overwrite, encoding, notify)


def _write_stdout(data: bytes, name: Place) -> None:
    """Send bytes to standard output, past its buffer: what fails now, must not fail once more at the end."""
    rest, file = memoryview(data), getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise ImageError(f"cannot write {name}: {error.strerror}") from error


def size_of(picture: Animation) -> tuple[int, int]:
    """Height and width in pixels."""
    height, width, _ = picture.frames[0].pixels.shape
    return height, width


def show_size(size: tuple[int, int]) -> str:
    """Write height and width as people read them, the width first: "640x480"."""
    return f"{size[1]}x{size[0]}"


def _distinct(jobs: list[tuple[Found, Job]], alone: bool) -> tuple[list[Job], list[Place], list[Outcome]]:
    """Part the jobs from the pictures that are outputs of others, and from those whose target another has.

    Those of read-only formats come last, and fail; others raise UsageError, unless they may fail `alone`.
    """
    place = by_name()
    outputs = {place(job.target) for _, job in jobs if place(job.target) != place(job.source)}
    left_out = [job.source for picture, job in jobs if not picture.named and place(job.source) in outputs]
    kept = [job for picture, job in jobs if picture.named or place(job.source) not in outputs]
    first: dict[Hashable, Job] = {}
    twins = []
    for job in sorted(kept, key=_only_read):
        other = first.setdefault(place(job.target), job)
        if other is job:
            continue
        if not alone and not _only_read(job):
            raise UsageError(
                f"{other.source} and {job.source} would both become {job.target}; "
                'do one at a time, or give --name "{stem}_{suffix}_{size}"'
            )
        reason = (
            f"{job.source}: would become {job.target}, as {other.source} does; "
            'rename one, or give --name "{stem}_{suffix}_{size}"'
        )
        twins.append(Outcome(job.source, job.target, "failed", reason))
    return [job for job in kept if first[place(job.target)] is job], left_out, twins


def _only_read(job: Job) -> bool:
    """Whether an input is of a format that is not written."""
    return job.source.suffix.lower() in READ_ONLY
