"""Benchmark sets over a cluster: each picture with all methods at once, the rows as of one machine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from esc_sr.cluster.address import connected
from esc_sr.cluster.nodes import Wish
from esc_sr.cluster.pool import Failed, Piece, Pool
from esc_sr.cluster.work import Given, WorkerMeans, sha256_of
from esc_sr.data.sets import BenchmarkSet, Item
from esc_sr.engines import pick_place
from esc_sr.evaluate.run import BICUBIC, Method, ScoreRow, begin_rows, fill_rows, find_methods, measure
from esc_sr.niqe import load_niqe
from esc_sr.weights import find

PictureNumbers = tuple[int, int]
"""Of a set, and of a picture in it."""


class Methods(NamedTuple):
    """What is measured on each worker, as of `find_methods`; and the file of NIQE's model."""

    names: Sequence[str]
    engine: str
    changes: Mapping[str, Any]
    natural: Path | None = None


class Scoring:
    """`ClusterWork` on pictures by their numbers, which gives what stands in the rows of all methods."""

    def __init__(self, methods: Methods, sets: Sequence[BenchmarkSet]) -> None:
        self._wanted, self._sets = methods, sets

    def prepare(self, means: WorkerMeans) -> dict[tuple[str, int], str]:
        """Load the methods at all scales."""
        names, engine, changes, natural = self._wanted
        device = pick_place(means.device, engine)
        scales = sorted({pictures.scale for pictures in self._sets})
        self._methods = {scale: find_methods(names, scale, device, engine, **changes) for scale in scales}
        self._natural = load_niqe(natural) if natural else None
        files = {(name, scale): find(name, scale) for name in names if name != BICUBIC for scale in scales}
        return {key: sha256_of(path) for key, path in files.items()}

    def do(self, numbers: PictureNumbers, given: Given) -> list[dict[str, Any] | str]:
        """Measure a picture."""
        pictures = self._sets[numbers[0]]
        item = pictures.items[numbers[1]]
        return measure(self._methods[pictures.scale], pictures, item, self._natural).found


def evaluate(
    methods: Methods,
    loaded: Mapping[int, Sequence[Method]],
    sets: Sequence[BenchmarkSet],
    rows: list[ScoreRow],
    cluster: str,
    wish: Wish,
    *,
    table: int | None = None,
    progress: Callable[[str], None] = lambda name: None,
    note: Callable[[str], object] = lambda text: None,
) -> None:
    """Measure methods on sets over a cluster, whose nodes all see the files under the same names.

    Args:
        methods: What workers load.
        loaded: The same, by scale, for the names of the rows.
        sets: The sets.
        rows: As of `evaluate.run.run`; filled at the end, and also where the run is broken off.
        cluster: As of `address.connected`.
        wish: What workers are to be like.
        table: As there.
        progress: Told the name of each picture that is done.
        note: Told of workers and nodes that are lost.

    Raises:
        EscError: As of `address.connected` and `Pool`.
    """
    found: dict[PictureNumbers, list[dict[str, Any] | str]] = {}
    try:
        with (
            connected(cluster) as ray,
            Pool(ray, Scoring(methods, [*map(_everywhere, sets)]), wish, note) as pool,
        ):
            pool.wait()
            for done in pool.run(_pieces(sets)):
                pictures = sets[done.item[0]]
                item = pictures.items[done.item[1]]
                count = len(loaded[pictures.scale])
                failed = isinstance(done.result, Failed)
                found[done.item] = [done.result.reason] * count if failed else done.result
                progress(f"{pictures.name} x{pictures.scale} {item.name}")
    finally:
        for number, pictures in enumerate(sets):
            mine = begin_rows(loaded[pictures.scale], pictures, table)
            rows += mine
            for place, item in enumerate(pictures.items):
                if (number, place) in found:
                    fill_rows(mine, item, found[number, place])


def _everywhere(pictures: BenchmarkSet) -> BenchmarkSet:
    """A set by paths that hold in other folders, too."""
    items = (Item(name, hr and hr.absolute(), lr and lr.absolute()) for name, hr, lr in pictures.items)
    return replace(pictures, items=tuple(items))


def _pieces(sets: Sequence[BenchmarkSet]) -> Iterator[Piece]:
    """All pictures, those of the largest files first; what a network takes here no plan tells."""
    all_of = [(number, place) for number, pictures in enumerate(sets) for place in range(len(pictures.items))]

    def size(numbers: PictureNumbers) -> int:
        item: Item = sets[numbers[0]].items[numbers[1]]
        return sum(path.stat().st_size for path in (item.hr, item.lr) if path is not None and path.exists())

    return (Piece(numbers, alone=True) for numbers in sorted(all_of, key=size, reverse=True))
