"""Pictures listed and measured by Ray Data while others are worked on, the largest of many first."""

import os
import pickle
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from esc_sr.errors import EscError
from esc_sr.image import other_kind
from esc_sr.machine.disk import name_on_disk
from esc_sr.remote import Address
from esc_sr.upscaling.files import Existing, Job, Outcome, header_of, output_name, settle
from esc_sr.upscaling.folders import Problem, pictures_of
from esc_sr.upscaling.names import Names
from esc_sr.upscaling.places import Place

WINDOW = 4096
"""Pictures among which the largest come first."""

_FIRST, _BLOCK = 64, 2048  # pictures that are measured by one task: of the first, and of those that are full

_AHEAD = 2**25  # bytes in the cluster's memory of what is listed in advance: 200,000 names or so

PROBLEM, OTHER, PICTURE = range(3)
"""What a row is of: an input that cannot be used, a file that is no picture, a picture."""

Walked = tuple[int, Any, str]
"""Of the walk: kind, the `Found` or what else has a place, and the problem or the kind of file."""


class Rules(NamedTuple):
    """What becomes what; as of `find_jobs`."""

    output: Path
    names: Names
    format: str | None
    existing: Existing


class Examined(NamedTuple):
    """A picture, or an input that is none.

    Attributes:
        kind: `PROBLEM`, `OTHER` or `PICTURE`.
        job: What becomes what; of the other kinds only the source counts.
        status: "" if it is to be done; else that of its `Outcome`.
        reason: Likewise; of `OTHER` the kind of file.
        pixels: All frames together, or the bytes of what lies in a store; 0 if that cannot be told.
        place: The output, the same for all its names on a disk that folds case.
    """

    kind: int
    job: Job
    status: str
    reason: str
    pixels: int
    place: bytes

    @property
    def outcome(self) -> Outcome:
        """What became of it, where that is known."""
        target = self.job.target if self.place else None
        return Outcome(self.job.source, target, self.status, self.reason)


def walk(inputs: Iterable[Place], output: Path) -> Iterator[Walked]:
    """Walk through all inputs; files in folders are not opened."""
    beside: list[Walked] = []

    def problem(found: Problem) -> None:
        beside.append((PROBLEM, found.path, found.reason))

    def other(found: Path | str) -> None:
        kind = other_kind(found) if isinstance(found, Path) else found
        beside.append((OTHER, found, kind))

    for given in inputs:
        for found in pictures_of(given, output, problem, other):
            yield from beside
            beside.clear()
            yield PICTURE, found, ""
        yield from beside
        beside.clear()


def examine(entry: Walked, rules: Rules) -> Examined:
    """Find out what a picture becomes, whether that is to be done, and how large it is."""
    kind, found, reason = entry
    if kind != PICTURE:
        return Examined(kind, Job(found, rules.output), "failed", reason, 0, b"")
    source = found.path
    try:
        name = output_name(source, rules.names, rules.format)
    except EscError as error:
        return Examined(kind, Job(source, rules.output), "failed", str(error), 0, b"")
    target = rules.output / found.below / name
    job = Job(source, target)
    place = name_on_disk(Path(os.path.realpath(target.parent), name))
    outcome = settle(job, set(), rules.existing, os.path.lexists(target))
    if outcome is not None:
        return Examined(kind, job, outcome.status, outcome.reason, 0, os.fsencode(place))
    if isinstance(source, Address):  # to be fetched once only
        return Examined(kind, job, "", "", source.size or 0, os.fsencode(place))
    pixels = 0
    with suppress(EscError):  # reading it says what is wrong
        frames, height, width, _ = header_of(job)
        pixels = frames * height * width
    return Examined(kind, job, "", "", pixels, os.fsencode(place))


def windows(
    ray: Any,
    entries: Callable[[], Iterator[Walked]],
    look: Callable[[Walked], Examined],
    window: int = WINDOW,
) -> Generator[list[Examined]]:
    """List and measure in the cluster, while what was found before is worked on.

    The walk is one task, on this machine's node, so that nothing is listed twice where another node leaves.
    Neither asks for cores: workers have these, and would never let go of them.

    Args:
        ray: The module, connected.
        entries: Gives what there is, as `walk` does.
        look: As `examine` does.
        window: How many come at once.

    Yields:
        So many, the largest first.
    """
    from ray.data.block import BlockMetadata

    def blocks() -> Iterator[Any]:
        found, size = entries(), _FIRST
        while block := list(islice(found, size)):
            yield _table(block)
            size = min(2 * size, _BLOCK)

    class Walk(ray.data.Datasource):  # type: ignore[misc]
        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(self, *more: Any, **named: Any) -> list[Any]:
            unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ray.data.ReadTask(blocks, unknown)]

    def measured(table: Any) -> Any:
        return _table([_packed(look(entry)) for entry in _rows(table)])

    _set_up(ray)
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    nodes = sum(node["Alive"] for node in ray.nodes())
    listed = ray.data.read_datasource(Walk(), num_cpus=0, label_selector=here, override_num_blocks=1)
    found = listed.map_batches(measured, batch_format="pyarrow", batch_size=1, num_cpus=0, concurrency=nodes)
    with closing(iter(found.iter_batches(batch_size=None, batch_format="pyarrow"))) as tables:
        rows = chain.from_iterable(map(_rows, tables))
        while block := [_unpacked(*row) for row in islice(rows, window)]:
            yield sorted(block, key=lambda row: -row.pixels)


def _table(rows: list[Any]) -> Any:
    """A table of one row, which Ray Data does not join with others or part: it stands for many."""
    import pyarrow

    return pyarrow.table({"packed": [pickle.dumps(rows)]})


def _rows(table: Any) -> Iterator[Any]:
    """What was packed into tables."""
    return chain.from_iterable(pickle.loads(packed.as_py()) for packed in table["packed"])


def _packed(found: Examined) -> tuple[Any, ...]:
    """A picture without objects for its paths: a million of them take minutes to pickle."""
    job = found.job
    return found.kind, *map(_plain, (job.source, job.target)), *found[2:]


def _unpacked(kind: int, source: Any, target: Any, *rest: Any) -> Examined:
    """What was packed."""
    source, target = (Path(place) if isinstance(place, str) else place for place in (source, target))
    return Examined(kind, Job(source, target), *rest)


def _plain(place: Place) -> str | Address:
    """A path as text."""
    return place if isinstance(place, Address) else os.fspath(place)


def _set_up(ray: Any) -> None:
    """Have Ray Data give each table at once, not run far ahead, and write nothing to the terminal."""
    import logging

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 1  # bytes; otherwise it gathers 128 MiB, which are a million names
    context.execution_options.resource_limits = ray.data.ExecutionResources(object_store_memory=_AHEAD)


def lister(
    inputs: Sequence[Place], rules: Rules
) -> tuple[Callable[[], Iterator[Walked]], Callable[[Walked], Examined]]:
    """The two functions for `windows`, of a run on files."""
    return partial(walk, inputs, rules.output), partial(examine, rules=rules)
