"""What `esc-sr upscale` says: lines for people or as JSON, the bar, the count at the end."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import typer

from esc_sr.cli.output import note as note
from esc_sr.cli.output import print_json
from esc_sr.errors import one_line
from esc_sr.upscaling.batch import BatchStatus
from esc_sr.upscaling.files import Outcome, show_size
from esc_sr.upscaling.sizes import Size, plain

NAMED = 20
"""Pictures that the last line names, at most."""


def counter(what: str) -> Callable[[int, int], None]:
    """A counter of pictures on stderr, if that is a terminal."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            typer.echo(f"{what}: {done}/{total}", err=True, nl=done == total)
            if done < total:
                typer.echo("\r", err=True, nl=False)

    return show


class Reporter:
    """Says what became of each input, and counts.

    Attributes:
        model: What the network is called.
        precision: That of the arithmetic.
        size: What the pictures become, once that is known.
        device: Where the network runs, likewise.
        as_json: One JSON object a line on stdout, and everything else on stderr.
        quiet: Say no more than errors, and JSON.
    """

    def __init__(self, model: str, precision: str, as_json: bool, quiet: bool) -> None:
        self.model, self.precision = model, precision
        self.size: Size | None = None
        self.device: str | None = None
        self.as_json, self.quiet = as_json, quiet
        self._counts: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._failed: list[str] = []
        self._note_once = cache(note)

    def say(self, outcome: Outcome) -> None:
        """Say what became of an input: its notes, once each, then a line."""
        self._counts[outcome.status] += 1
        if self.as_json:
            print_json(self._record(outcome), indent=None)
        if outcome.status == "failed":
            note(f"error: {outcome.reason}")
            self._failed.append(str(outcome.source))
        if outcome.status == "skipped":
            self._skipped[outcome.reason] += 1
        if self.quiet:
            return
        for line in outcome.notes:
            self._note_once(line)
        if outcome.status == "done":
            before, after = (show_size(size) for size in (outcome.size, outcome.target_size) if size)
            how = f"{self.model} {self.size}, {self.device}, {self.precision}"
            line = f"{outcome.source} {before} -> {outcome.target} {after}, {how}, {outcome.seconds:.1f} s"
            typer.echo(one_line(line), err=self.as_json)

    def finish(self) -> None:
        """Count, and turn failures into the exit code."""
        total, failed = self._counts.total(), self._counts["failed"]
        names = self._failed[:NAMED] + [f"and {failed - NAMED} more"] * (failed > NAMED)
        counts = [f"{failed} of {total} failed: {', '.join(names)}"] if failed and total > 1 else []
        if not self.quiet:
            counts += [f"{count} of {total} skipped: {why}" for why, count in self._skipped.items()]
        if counts:
            note("; ".join(counts))
        if failed:
            raise typer.Exit(2 if failed == total else 1)

    def _record(self, outcome: Outcome) -> dict[str, Any]:
        """What stands in a line of JSON; sizes are width and height in pixels; no scale for a wished side."""
        size = self.size
        return {
            "source": str(outcome.source),
            "target": outcome.target and str(outcome.target),
            "status": outcome.status,
            "reason": outcome.reason or None,
            "size": outcome.size and outcome.size[::-1],
            "target_size": outcome.target_size and outcome.target_size[::-1],
            "seconds": round(outcome.seconds, 3),
            "model": self.model,
            "scale": plain(size.value) if size is not None and size.of == "scale" else None,
            "device": self.device,
            "precision": self.precision,
        }


def time_left(done: float, total: float, seconds: float) -> str:
    """How long a run still takes if it goes on as before, such as "1:05:00 left"; "" if nobody knows."""
    if done <= 0:
        return ""
    minutes, left = divmod(round(seconds * (total - done) / done), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02} left" if hours else f"{minutes}:{left:02} left"


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[BatchStatus], None]]:
    """A bar on stderr, if that is a terminal; it shows what is given to the function."""
    if quiet or not sys.stderr.isatty():
        yield lambda status: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TimeElapsedColumn

    bar = Progress(
        "{task.fields[place]}/{task.fields[count]}",
        BarColumn(),
        "{task.percentage:3.0f} %",
        TimeElapsedColumn(),
        "{task.fields[left]}",
        "{task.description}",
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )
    start = time.monotonic()
    with bar:
        task = bar.add_task("", total=None, place=0, count=0, left="", visible=False)

        def show(status: BatchStatus) -> None:
            bar.update(
                task,
                completed=status.done,
                total=status.total,
                description=escape(status.source.name),
                place=status.place,
                count=status.count,
                left=time_left(status.done, status.total, time.monotonic() - start),
                visible=True,
            )

        yield show
