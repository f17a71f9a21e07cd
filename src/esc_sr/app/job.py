"""One picture that the server has to enlarge, and what has become of it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from esc_sr.app.limits import Limits, RefusalError, status_of
from esc_sr.errors import EscError, one_line
from esc_sr.upscaling.sizes import Size


class Asked(NamedTuple):
    """What is wished.

    Attributes:
        name: What people call the picture; never a path.
        target: What its result is called.
        model: Bundled name without a scale.
        size: What the picture becomes.
        sides: Height and width of the picture in pixels.
        reserved: Bytes of the file, and of the result before compression.
        denoise: As of `esc_sr.upscale`.
    """

    name: str
    target: str
    model: str
    size: Size
    sides: tuple[int, int]
    reserved: int
    denoise: float | None = None


class CancelledError(Exception):
    """Whoever wanted a job does not any more."""


@dataclass(frozen=True)
class JobStatus:
    """What is told of a job.

    Attributes:
        id: Names it in addresses.
        state: "queued", "running", "done", "failed" or "cancelled".
        name: What the picture is called.
        model: Bundled name.
        size: As people read it: "x2", "1920 px wide".
        denoise: How much noise goes, 0 to 1; null if it was not said.
        width: Of the picture in pixels.
        height: Likewise.
        result: What its result is called.
        result_width: In pixels.
        result_height: Likewise.
        result_bytes: Of the file; 0 until it is there.
        waiting_for: How many jobs come before it.
        done: How much of it is computed, 0 to 1.
        seconds_left: How long it still takes if it goes on as before, if that is known.
        seconds: How long it took, or takes already.
        notes: What was converted, left out or noticed, and how it was computed, in a line each.
        error: Why it failed, in one line.
    """

    id: str
    state: str
    name: str
    model: str
    size: str
    denoise: float | None
    width: int
    height: int
    result: str
    result_width: int
    result_height: int
    result_bytes: int
    waiting_for: int
    done: float
    seconds_left: float | None
    seconds: float
    notes: list[str]
    error: str


class AppJob:
    """A picture on its way, in a folder of its own: `source`, then `result` with its suffix.

    Attributes:
        id: Nobody can guess it.
        folder: Its own.
        asked: What is wished.
        state: As of `JobStatus`.
        code: Status of HTTP for what it failed by.
        ended: When it was done or failed, on the monotonic clock.
        readers: How many use its files, the network too.
    """

    def __init__(self, id: str, folder: Path, asked: Asked, limits: Limits, yields: threading.Event):
        self.id, self.folder, self.asked = id, folder, asked
        self.state, self.error, self.code, self.done = "queued", "", 500, 0.0
        self.ended: float | None = None
        self.readers = 0
        self._begun: float | None = None
        self._limits, self._yields = limits, yields
        self._notes: list[str] = []
        self._cancelled = threading.Event()

    @property
    def source(self) -> Path:
        """The file that came."""
        return self.folder / "source"

    @property
    def target(self) -> Path:
        """The file that becomes."""
        return self.folder / f"result{Path(self.asked.target).suffix}"

    @property
    def over(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state not in ("queued", "running")

    @property
    def taken(self) -> int:
        """Bytes that its files take, views too; until it is over, its result as it was reserved."""
        files = [file for file in self.folder.glob("[!.]*") if self.over or file != self.source]
        return sum(file.stat().st_size for file in files) + (0 if self.over else self.asked.reserved)

    def note(self, text: str) -> None:
        """Take down what is said of it, once."""
        line = one_line(text.replace(str(self.target), self.asked.target))
        if line not in self._notes:
            self._notes.append(line)

    def progress(self, done: float) -> None:
        """Take down how much is done, and let previews go first.

        Raises:
            CancelledError: Nobody wants it any more.
            RefusalError: It takes too long.
        """
        self.done = done
        self._yields.wait(10)
        if self._cancelled.is_set():
            raise CancelledError
        if self._begun is not None and time.monotonic() - self._begun > self._limits.job_seconds:
            minutes = self._limits.job_seconds / 60
            raise RefusalError(503, f"{self.asked.name}: takes longer than {minutes:g} minutes; ended")

    def cancel(self) -> None:
        """Have it end within a band."""
        self._cancelled.set()
        if not self.over:
            self.state = "cancelled"

    def run(self, work: Callable[["AppJob"], object]) -> None:
        """Do the work, and take down what became of it."""
        if self._cancelled.is_set():
            return
        self.state, self._begun = "running", time.monotonic()
        try:
            work(self)
            ended = "done"
        except (EscError, RefusalError) as error:
            self.error = str(error).replace(str(self.target), self.asked.target)
            self.code = status_of(error)
            ended = "failed"
        except CancelledError:
            ended = "cancelled"
        except Exception as error:  # the next job is not to suffer from it
            self.error = one_line(f"{self.asked.name}: {type(error).__name__}: {error}")
            ended = "failed"
        self.ended = time.monotonic()
        self.state = "cancelled" if self._cancelled.is_set() else ended

    def status(self, waiting_for: int) -> JobStatus:
        """What is told of it."""
        asked, begun = self.asked, self._begun
        seconds = 0.0 if begun is None else (self.ended or time.monotonic()) - begun
        left = seconds * (1 - self.done) / self.done if self.state == "running" and self.done > 0 else None
        height, width = asked.size.target(*asked.sides)
        size = self.target.stat().st_size if self.state == "done" and self.target.exists() else 0
        return JobStatus(
            id=self.id,
            state=self.state,
            name=asked.name,
            model=asked.model,
            size=str(asked.size),
            denoise=asked.denoise,
            width=asked.sides[1],
            height=asked.sides[0],
            result=asked.target,
            result_width=width,
            result_height=height,
            result_bytes=size,
            waiting_for=waiting_for,
            done=round(self.done, 4),
            seconds_left=None if left is None else round(left, 1),
            seconds=round(seconds, 1),
            notes=list(self._notes),
            error=self.error,
        )
