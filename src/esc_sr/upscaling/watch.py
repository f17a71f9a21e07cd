"""Folders into which pictures come: each is done when it is whole. Needs no torch."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic, sleep
from typing import NoReturn

from esc_sr.errors import EscError
from esc_sr.upscaling.files import CLAIMED, Job, Outcome, Todo
from esc_sr.upscaling.places import Place

SETTLE = 2.0
"""Seconds without a change after which a file is taken for whole."""

PATIENCE = 30.0
"""Seconds without a change after which what cannot be read is damaged, and not just slow to come."""

_PAUSE, _SHARE = 1.0, 4  # seconds between looks, and how much longer than a look that is at least


@dataclass
class _Arrival:
    """A file: its size and time, since when they are so, and for how long they must be before it is tried."""

    state: tuple[int, int]
    since: float
    due: float = SETTLE


class Arrivals:
    """Which pictures are whole, and have not been tried as they are."""

    def __init__(self) -> None:
        self._seen: dict[Place | str, _Arrival] = {}

    def whole(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of the jobs whose time has come.

        What is done stays done while its source is there as it was, even if the output is taken away.
        """
        now = monotonic()
        self._seen = {path: seen for path, seen in self._seen.items() if os.path.exists(str(path))}
        due = []
        for job in jobs:
            try:
                found = os.stat(str(job.source))
            except OSError:
                continue  # gone again
            state = (found.st_size, found.st_mtime_ns)
            seen = self._seen.get(job.source)
            if seen is None or seen.state != state:
                self._seen[job.source] = _Arrival(state, now)
            elif now - seen.since >= seen.due:
                due.append(job)
        return due

    def counts(self, outcome: Outcome) -> bool:
        """Take down what became of a job; false if it will be tried again as it is."""
        seen = self._seen[outcome.source]
        if outcome.reason == CLAIMED:
            return False
        if outcome.status == "failed" and seen.due < PATIENCE:
            seen.due = PATIENCE
            return False
        seen.due = math.inf
        return True


def watch_folders(
    find: Callable[[], Todo],
    do: Callable[[Sequence[Job], Callable[[Outcome], object]], object],
    say: Callable[[Outcome], object],
    note: Callable[[str], object],
) -> NoReturn:
    """Do pictures as they come, until an exception such as Ctrl-C.

    Args:
        find: Looks what there is; has `existing` "skip", so that a new run goes on where the last has ended.
        do: Does jobs, and tells what became of each.
        say: Is told what became of an input, once.
        note: Is told what keeps `find` from looking, in one line, once.
    """
    arrivals, said = Arrivals(), set()

    def tell(outcome: Outcome) -> None:
        if arrivals.counts(outcome):
            say(outcome)

    while True:
        begun = monotonic()
        try:
            todo = find()
        except EscError as error:
            if str(error) not in said:
                note(str(error))
            said.add(str(error))
            todo = Todo([], [], [])
        for outcome in todo.settled:
            if outcome.status == "failed" and outcome.reason not in said:
                said.add(outcome.reason)
                say(outcome)
        pause = max(_PAUSE, _SHARE * (monotonic() - begun))
        if jobs := arrivals.whole(todo.jobs):
            do(jobs, tell)
        sleep(pause)
