"""What `esc-sr upscale` says: lines for people or as JSON, the bar, the count at the end."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from itertools import starmap
from typing import Any

import typer

from esc_sr.cli.options import show_denoise
from esc_sr.cli.output import to_json
from esc_sr.errors import one_line
from esc_sr.image import what_first
from esc_sr.upscaling.batch import BatchStatus
from esc_sr.upscaling.files import Outcome, Todo, show_size
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
        denoise: As of `upscale`.
        size: What the pictures become, once that is known.
        device: Where the network runs, likewise.
        as_json: One JSON object a line on stdout, and everything else on stderr.
        quiet: Say no more than errors, and JSON.
    """

    def __init__(
        self,
        model: str,
        precision: str,
        as_json: bool,
        quiet: bool,
        bar: "Bar",
        to_stdout: bool = False,
        denoise: float | None = None,
    ) -> None:
        self.model, self.precision, self.denoise, self._bar = model, precision, denoise, bar
        self.size: Size | None = None
        self.device: str | None = None
        self.as_json, self.quiet, self._to_stdout = as_json, quiet, to_stdout
        self._counts: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._failed: list[str] = []
        self._note_once = cache(bar.note)

    def begin(self, todo: Todo) -> bool:
        """Say what is known before any work; where there is none to do, count, and give false.

        Raises:
            typer.Exit: As `finish`.
        """
        for outcome in todo.settled:
            self.say(outcome)
        if todo.left_out and not self.quiet:
            first = todo.left_out[0]
            self._bar.note(f"left out as outputs of an earlier run: {len(todo.left_out)}, such as {first}")
        if not todo.jobs:
            self.finish(todo.others)
        return bool(todo.jobs)

    def say(self, outcome: Outcome) -> None:
        """Say what became of an input: its notes, once each, then a line."""
        self._counts[outcome.status] += 1
        if self.as_json:
            self._bar.line(to_json(self._record(outcome), indent=None), err=False)
        if outcome.status == "failed":
            self._bar.note(f"error: {outcome.reason}")
            self._failed.append(str(outcome.source))
        if outcome.status == "skipped":
            self._skipped[outcome.reason] += 1
        if self.quiet:
            return
        for line in outcome.notes:
            self._note_once(line)
        if outcome.status == "done":
            before, after = (show_size(size) for size in (outcome.size, outcome.target_size) if size)
            how = f"{self.model} {self.size}{show_denoise(self.denoise)}, {self.device}, {self.precision}"
            line = f"{outcome.source} {before} -> {outcome.target} {after}, {how}, {outcome.seconds:.1f} s"
            self._bar.line(one_line(line), err=self.as_json or self._to_stdout)

    def finish(self, others: Mapping[str, int]) -> None:
        """Count, and turn failures into the exit code.

        Args:
            others: How many files were left out, by their kind, since they are no pictures.
        """
        total, failed = self._counts.total(), self._counts["failed"]
        names = self._failed[:NAMED] + [f"and {failed - NAMED} more"] * (failed > NAMED)
        counts = [f"{failed} of {total} failed: {', '.join(names)}"] if failed and total > 1 else []
        if not self.quiet:
            counts += [f"{count} of {total} skipped: {why}" for why, count in self._skipped.items()]
        if counts:
            self._bar.note("; ".join(counts))
        if others and (total == 0 or not self.quiet):
            self._bar.note(f"left out: {', '.join(starmap(_left_out, others.items()))}")
        if failed:
            raise typer.Exit(2 if failed == total else 1)
        if total == 0:
            raise typer.Exit(1)

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
            "denoise": self.denoise,
        }


def _left_out(kind: str, count: int) -> str:
    """How many files of a kind are no pictures, and what makes pictures of them."""
    first, plural = what_first(kind), "s" * (count > 1 and kind[0].islower())
    return f"{count} {kind}{plural}" + f" ({first})" * (first is not None)


def time_left(done: float, total: float, seconds: float) -> str:
    """How long a run still takes if it goes on as before, such as "1:05:00 left"; "" if nobody knows."""
    if done <= 0:
        return ""
    minutes, left = divmod(round(seconds * (total - done) / done), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02} left" if hours else f"{minutes}:{left:02} left"


class Bar:
    """A bar on stderr, if that is a terminal, and lines that are printed above it.

    A context: the bar is there inside, and is gone afterwards. Without a terminal there are the lines alone.
    """

    def __init__(self, quiet: bool) -> None:
        self._begun: tuple[float, float] | None = None
        self._bar: Any = None
        if quiet or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TimeElapsedColumn

        columns = ("{task.fields[counted]}", BarColumn(), TimeElapsedColumn(), "{task.description}")
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
        self._task = self._bar.add_task("", total=None, counted="")

    def __enter__(self) -> "Bar":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def stage(self, text: str) -> None:
        """Say what is done before the first picture."""
        if self._bar is not None:
            self._bar.update(self._task, description=text, refresh=True)

    def show(self, status: BatchStatus) -> None:
        """Show how far a run is."""
        self.move(status.done, status.total, f"{status.place}/{status.count}", status.source.name)

    def move(self, done: float, total: float, counted: str, words: str) -> None:
        """Show how much is done, with words left and right; the time left counts from the first call."""
        if self._bar is None:
            return
        from rich.markup import escape

        now = time.monotonic()
        begun, before = self._begun = self._begun or (now, done)
        left = time_left(done - before, total - before, now - begun)
        percent = f"{100 * done / total:3.0f} %" if total else ""
        self._bar.update(
            self._task,
            completed=done,
            total=total or None,
            description=" ".join(filter(None, (percent, left, escape(one_line(words))))),
            counted=counted,
            refresh=counted != self._bar.tasks[0].fields["counted"],
        )

    def line(self, text: str, err: bool) -> None:
        """Print a line on stderr or stdout; on the bar's own terminal, above it."""
        if self._bar is None or not (err or sys.stdout.isatty()):
            typer.echo(text, err=err)
            return
        from rich.text import Text

        self._bar.console.print(Text(text), soft_wrap=True)

    def note(self, text: str) -> None:
        """Say something on stderr, if that can be written."""
        with suppress(OSError):
            self.line(f"esc-sr: {one_line(text)}", err=True)
