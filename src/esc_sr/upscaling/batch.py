"""Many pictures through the engine: while one is computed, the next are read and the last is written."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from esc_sr.errors import EscError
from esc_sr.image import Animation, Encoding, interrupt_later
from esc_sr.machine.claim import Claim
from esc_sr.remote import Address, RemoteClaim, until
from esc_sr.upscaling import FractionDone
from esc_sr.upscaling.files import (
    CLAIMED,
    EXISTS,
    Existing,
    Job,
    Outcome,
    claim_target,
    enlarge,
    fetched,
    header_of,
    is_done,
    is_elsewhere,
    read_source,
    size_of,
    write_result,
)
from esc_sr.upscaling.places import Place, is_file

if TYPE_CHECKING:
    from esc_sr.upscaling.engine import Upscaler

AHEAD = 2
"""Pictures that are read before their turn, at most."""

FETCHED = AHEAD + 2
"""Pictures of which the bytes are fetched from a store before their turn, and at the same time, at most."""

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
        total: Of how many, without those of pictures that failed or were skipped; a picture that has yet to
            be fetched from a store counts as the mean of the others.
    """

    source: Place
    place: int
    count: int
    done: float
    total: float


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


class Task:
    """A job on its way through the stages, and what has become of it so far.

    Attributes:
        job: What becomes what.
        fetched: The same, with the bytes of an input in a store until that is read.
        outcome: "done" until something goes wrong.
        picture: The input, then the result, then nothing.
        claim: To the output, from before it is computed until it is written.
    """

    def __init__(self, job: Job, choices: Choices) -> None:
        self.job, self.fetched, self.choices = job, job, choices
        self.outcome = Outcome(job.source, job.target, "done")
        self.picture: Animation | None = None
        self.claim: Claim | RemoteClaim | None = None

    def fetch(self) -> "Task":
        """Get the bytes of the picture."""
        with self._stage() as going:
            if going:
                self.fetched = fetched(self.job)
        return self

    def read(self) -> "Task":
        """Read the picture."""
        notes: list[str] = []
        with self._stage() as going:
            if going:
                self.picture = read_source(self.fetched, self.choices.allow_large, notes.append)
                self.fetched = self.job
                self.outcome = self.outcome._replace(size=size_of(self.picture))
        self._note(notes)
        return self

    def compute(self, upscaler: "Upscaler", progress: FractionDone) -> None:
        """Claim the output, and enlarge the picture."""
        with self._stage() as going:
            if going and not self.job.to_stdout:
                with interrupt_later():  # a claim that nobody holds is not given up
                    self.claim = claim_target(self.job)
        with self._stage(look=True) as going:  # whoever had it before may be done
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
    def _stage(self, look: bool = False) -> Iterator[bool]:
        """Take the time, and what goes wrong; false if an earlier stage failed or the output has appeared.

        Stores are asked for that only where `look` says so.
        """
        start = time.perf_counter()
        going = self.outcome.status == "done"
        try:
            if going and (look or not isinstance(self.job.target, Address)) and self._exists():
                self._end("skipped", EXISTS)
        except EscError as error:
            self._end("failed", str(error))
        try:
            yield self.outcome.status == "done"
        except EscError as error:
            appeared = isinstance(error.__cause__, FileExistsError) and self.choices.existing == "skip"
            if appeared and is_done(self.job, there=True):
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
        return self.choices.existing == "skip" and is_file(self.job.target)


def _drop(tasks: Iterable[Task]) -> None:
    """Let go of what tasks hold."""
    for task in tasks:
        task.drop()


class _Line:
    """The jobs in their order, and how many pixels they have.

    The bytes of those in stores are fetched shortly before their turn, and only then their pixels are known.
    """

    def __init__(
        self, jobs: Sequence[Job], upscaler: "Upscaler", choices: Choices, fetcher: Executor
    ) -> None:
        self._jobs, self._upscaler, self._choices, self._fetcher = jobs, upscaler, choices, fetcher
        self._pixels = [None if is_elsewhere(job) else _pixels(job, upscaler) for job in jobs]
        self._fetches: dict[int, Future[Task]] = {}
        self._over = threading.Event()
        known = [pixels[0] for pixels in self._pixels if pixels is not None]
        self._sum, self._known, self._unknown = sum(known), len(known), len(jobs) - len(known)

    @property
    def total(self) -> float:
        """Pixels of all inputs, of those that are not known as many as the others have in the mean."""
        return self._sum + (self._unknown * self._sum / self._known if self._known else 0)

    def fetch(self, place: int) -> None:
        """Begin to fetch what comes next, from some place on."""
        for coming in range(place, min(place + FETCHED, len(self._jobs))):
            if self._pixels[coming] is None and coming not in self._fetches:
                task = Task(self._jobs[coming], self._choices)
                self._fetches[coming] = self._fetcher.submit(self._fetched, task)

    def _fetched(self, task: Task) -> Task:
        """The task, fetched, or given up at the end."""
        with until(self._over):
            return task.fetch()

    def end(self) -> None:
        """Fetch no more."""
        self._over.set()
        self._fetcher.shutdown(wait=False, cancel_futures=True)

    def is_here(self, place: int) -> bool:
        """Whether the pixels of a job are known without waiting."""
        return self._pixels[place] is not None or self._fetches[place].done()

    def pixels(self, place: int) -> tuple[int, int]:
        """Pixels of an input and of its output, as of `_pixels`; waits for what is being fetched."""
        pixels = self._pixels[place]
        if pixels is None:
            task = self._fetches[place].result()
            going = task.outcome.status == "done"
            pixels = self._pixels[place] = _pixels(task.fetched, self._upscaler) if going else (0, 0)
            self._sum, self._known, self._unknown = self._sum + pixels[0], self._known + 1, self._unknown - 1
        return pixels

    def task(self, place: int) -> Task:
        """A job that is due to be read."""
        fetch = self._fetches.pop(place, None)
        return fetch.result() if fetch else Task(self._jobs[place], self._choices)

    def lose(self, place: int) -> None:
        """Leave out the pixels of an input that is not upscaled."""
        self._sum -= self.pixels(place)[0]


def _pixels(job: Job, upscaler: "Upscaler") -> tuple[int, int]:
    """Pixels of an input and of what the network makes of it, all frames together; 0 if it cannot be done."""
    try:
        frames, height, width, _ = header_of(job)
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
    before the next is read. What is in a store is fetched `FETCHED` pictures before its turn. On an
    exception, Ctrl-C too, what is being read or written is completed, and no more. The network runs in the
    calling thread.

    Args:
        jobs: What becomes what.
        upscaler: The network.
        report: Is told what became of each job, in their order, as soon as it is known, by another thread.
        choices: How the files are treated.
        overlap: If false, every picture has the memory to itself.
        progress: Is told many times how far the run is.
    """
    done = 0
    ahead: deque[Future[Task]] = deque()
    begun: deque[Task] = deque(maxlen=2)  # what is computed and what is written have claims

    def tell(place: int, part: float) -> None:
        at = done + part * line.pixels(place)[0]
        progress(BatchStatus(jobs[place].source, place, len(jobs), at, line.total))

    def alone(place: int) -> bool:
        return not overlap or line.pixels(place)[1] > LARGE

    def finish(task: Task) -> None:
        task.write()
        report(task.outcome)

    with (
        ExitStack() as at_last,
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
        ThreadPoolExecutor(FETCHED) as fetcher,
    ):
        line = _Line(jobs, upscaler, choices, fetcher)
        at_last.callback(_drop, begun)
        last = writer.submit(lambda: None)
        try:
            for place in range(len(jobs)):
                line.fetch(place)
                if alone(place):
                    last.result()
                for coming in range(place + len(ahead), min(place + AHEAD + 1, len(jobs))):
                    if coming > place and (not line.is_here(coming) or alone(place) or alone(coming)):
                        break
                    ahead.append(reader.submit(line.task(coming).read))
                tell(place, 0)
                task = ahead.popleft().result()
                begun.append(task)
                task.compute(upscaler, partial(tell, place))
                if task.outcome.status == "done":
                    done += line.pixels(place)[0]
                else:
                    line.lose(place)
                last.result()
                last = writer.submit(finish, task)
                if alone(place):
                    last.result()
            last.result()
        finally:
            line.end()
            reader.shutdown(wait=False, cancel_futures=True)
