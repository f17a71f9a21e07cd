"""Many pictures through the engine: while one is computed, the next are read and the last is written."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from esc_sr.errors import EscError
from esc_sr.image import Animation, Encoding, interrupt_later
from esc_sr.machine.claim import Claim
from esc_sr.upscaling import FractionDone
from esc_sr.upscaling.files import (
    CLAIMED,
    EXISTS,
    Existing,
    Job,
    Outcome,
    claim_target,
    enlarge,
    read_source,
    shape_of,
    size_of,
    write_result,
)

if TYPE_CHECKING:
    from esc_sr.upscaling.engine import Upscaler

AHEAD = 2
"""Pictures that are read before their turn, at most."""

LARGE = 2**24
"""Pixels that the network gives, all frames together, above which a picture has the memory to itself."""


@dataclass(frozen=True)
class BatchStatus:
    """How far a run is.

    Attributes:
        source: The picture that is computed.
        place: How many came before it.
        count: How many there are.
        done: Pixels of the inputs that are done.
        total: Of how many, without those of pictures that failed or were skipped.
    """

    source: Path
    place: int
    count: int
    done: float
    total: int


class Choices(NamedTuple):
    """How the files of a run are treated.

    Attributes:
        existing: What happens where an output exists.
        encoding: How the outputs are encoded.
        allow_large: As in `files.read_source`.
    """

    existing: Existing = "refuse"
    encoding: Encoding = Encoding()
    allow_large: bool = False


class _Task:
    """A job on its way through the stages, and what has become of it so far.

    Attributes:
        job: What becomes what.
        outcome: "done" until something goes wrong.
        picture: The input, then the result, then nothing.
        claim: To the output, from before it is computed until it is written.
    """

    def __init__(self, job: Job, choices: Choices) -> None:
        self.job, self.choices = job, choices
        self.outcome = Outcome(job.source, job.target, "done")
        self.picture: Animation | None = None
        self.claim: Claim | None = None

    def read(self) -> "_Task":
        """Read the picture."""
        notes: list[str] = []
        with self._stage() as going:
            if going:
                self.picture = read_source(self.job, self.choices.allow_large, notes.append)
                self.outcome = self.outcome._replace(size=size_of(self.picture))
        self._note(notes)
        return self

    def compute(self, upscaler: "Upscaler", progress: FractionDone) -> None:
        """Claim the output, and enlarge the picture."""
        with self._stage() as going:
            if going and not self.job.to_stdout:
                with interrupt_later():  # a claim that nobody holds is not given up
                    self.claim = claim_target(self.job)
        with self._stage() as going:  # whoever had it before may be done
            if going and self.picture is not None:
                self.picture = enlarge(self.job, self.picture, upscaler, progress)
                self.outcome = self.outcome._replace(target_size=size_of(self.picture))

    def write(self) -> None:
        """Write the result, and let go of it."""
        notes: list[str] = []
        overwrite = self.choices.existing == "overwrite"
        with self._stage() as going:
            if going and self.picture is not None:
                write_result(
                    self.job, self.picture, self.claim, overwrite, self.choices.encoding, notes.append
                )
        self.drop()
        self._note(notes)

    def drop(self) -> None:
        """Let go of the picture, and of the claim."""
        self.picture = None
        if self.claim is not None:
            self.claim.close()

    def _note(self, notes: list[str]) -> None:
        """Add to what is said of the job."""
        self.outcome = self.outcome._replace(notes=(*self.outcome.notes, *notes))

    @contextmanager
    def _stage(self) -> Iterator[bool]:
        """Take the time, and what goes wrong; false if an earlier stage failed or the output has appeared."""
        start = time.perf_counter()
        going = self.outcome.status == "done"
        try:
            if going and self._exists():
                self._end("skipped", EXISTS)
            yield self.outcome.status == "done"
        except EscError as error:
            if isinstance(error.__cause__, FileExistsError) and self._exists():
                self._end("skipped", EXISTS)
            elif isinstance(error.__cause__, BlockingIOError) and self.choices.existing == "skip":
                self._end("skipped", CLAIMED)
            else:
                self._end("failed", str(error))
        if going:
            spent = self.outcome.seconds + time.perf_counter() - start
            self.outcome = self.outcome._replace(seconds=spent)

    def _end(self, status: str, reason: str) -> None:
        """Go no further, and say why."""
        self.outcome = self.outcome._replace(status=status, reason=reason)
        self.drop()

    def _exists(self) -> bool:
        """Whether another process has made the output, and is not to be disturbed."""
        return self.choices.existing == "skip" and self.job.target.is_file()


def _drop(tasks: Iterable[_Task]) -> None:
    """Let go of what tasks hold."""
    for task in tasks:
        task.drop()


def _pixels(job: Job, upscaler: "Upscaler") -> tuple[int, int]:
    """Pixels of an input and of what the network makes of it, all frames together; 0 if it cannot be done."""
    try:
        frames, height, width = shape_of(job)
        return frames * height * width, frames * prod(upscaler.gives(height, width))
    except EscError:
        return 0, 0


def run(
    jobs: Sequence[Job],
    upscaler: "Upscaler",
    report: Callable[[Outcome], object],
    choices: Choices = Choices(),
    overlap: bool = True,
    progress: Callable[[BatchStatus], object] = lambda status: None,
) -> None:
    """Upscale picture files; what goes wrong with one of them does not stop the others.

    One thread reads up to `AHEAD` pictures before their turn, another writes the last result. A picture of
    which the network makes more than `LARGE` pixels is read when all before it are written, and written
    before the next is read. On an exception, Ctrl-C too, what is being read or written is completed, and no
    more. The network runs in the calling thread.

    Args:
        jobs: What becomes what.
        upscaler: The network.
        report: Is told what became of each job, in their order, as soon as it is known, by another thread.
        choices: How the files are treated.
        overlap: If false, every picture has the memory to itself.
        progress: Is told many times how far the run is.
    """
    pixels = [_pixels(job, upscaler) for job in jobs]
    sizes = [size for size, _ in pixels]
    alone = [not overlap or given > LARGE for _, given in pixels]
    done, total = 0, sum(sizes)
    ahead: deque[Future[_Task]] = deque()
    begun: deque[_Task] = deque(maxlen=2)  # what is computed and what is written have claims

    def tell(place: int, part: float) -> None:
        progress(BatchStatus(jobs[place].source, place, len(jobs), done + part * sizes[place], total))

    def finish(task: _Task) -> None:
        task.write()
        report(task.outcome)

    with ExitStack() as at_last, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        at_last.callback(_drop, begun)
        last = writer.submit(lambda: None)
        try:
            for place in range(len(jobs)):
                if alone[place]:
                    last.result()
                for coming in range(place + len(ahead), min(place + AHEAD + 1, len(jobs))):
                    if coming > place and (alone[place] or alone[coming]):
                        break
                    ahead.append(reader.submit(_Task(jobs[coming], choices).read))
                tell(place, 0)
                task = ahead.popleft().result()
                begun.append(task)
                task.compute(upscaler, partial(tell, place))
                if task.outcome.status == "done":
                    done += sizes[place]
                else:
                    total -= sizes[place]
                last.result()
                last = writer.submit(finish, task)
                if alone[place]:
                    last.result()
            last.result()
        finally:
            reader.shutdown(wait=False, cancel_futures=True)
