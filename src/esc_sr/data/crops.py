"""Crops by number, and the batches of a run: the same from any step on, for any number of processes."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, takewhile
from multiprocessing.synchronize import Event
from threading import Thread
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from esc_sr.errors import DataError, EscError, UsageError

P = TypeVar("P")
Batch = tuple[Tensor, ...]


class Crops(Dataset[Batch], Generic[P]):
    """All crops that a run may ever take; number n depends on the seed and n alone."""

    def __init__(
        self,
        pictures: Sequence[P],
        cut: Callable[[P, np.random.Generator], Batch],
        seed: int,
        shares: Sequence[float] | None = None,
        per_epoch: int = 0,
    ) -> None:
        """Take pictures to draw from.

        Args:
            pictures: at least one.
            cut: takes a crop of a picture; all randomness comes from the generator.
            seed: 0 or more.
            shares: how often a crop is one of each picture, relative to the others; by default all alike.
            per_epoch: crops of each picture in an epoch, in random order; 0 draws that of each crop anew.
        """
        self.pictures = pictures
        self.cut = cut
        self.seed = seed
        ends = np.cumsum(np.ones(len(pictures)) if shares is None else shares)
        self._ends = ends / ends[-1]
        self.per_epoch = per_epoch
        self._epoch, self._order = -1, np.zeros(0, int)

    def __getitem__(self, number: int) -> Batch:
        """Crop `number`, from 0: what the network is given and, last, what it should give."""
        generator = np.random.default_rng((self.seed, number))
        place = int(np.searchsorted(self._ends, generator.random(), side="right"))
        return self.cut(self.pictures[self._in_turn(number) if self.per_epoch else place], generator)

    def _in_turn(self, number: int) -> int:
        """Which picture comes in the random order of its epoch."""
        epoch, place = divmod(number, self.per_epoch * len(self.pictures))
        if epoch != self._epoch:
            order = np.random.default_rng((self.seed, epoch, 1)).permutation(
                self.per_epoch * len(self.pictures)
            )
            self._epoch, self._order = epoch, order % len(self.pictures)
        return int(self._order[place])


def shares_of(counts: Sequence[int], mix: Sequence[float] | None) -> list[float] | None:
    """The shares of single pictures that give each root its part of a mix.

    Args:
        counts: pictures of each root, each at least 1.
        mix: how often a crop comes from each root, relative to the others; None for every picture alike.

    Raises:
        UsageError: one number per root is needed, none negative, one above 0.
    """
    if mix is None:
        return None
    if len(mix) != len(counts) or not all(0 <= part < float("inf") for part in mix) or not any(mix):
        shown = ",".join(f"{part:g}" for part in mix)
        raise UsageError(
            f"--mix {shown}: must be {len(counts)} numbers, one for each --data, from 0, and not all 0"
        )
    return [part / held for part, held in zip(mix, counts, strict=True) for _ in range(held)]


def batches(
    crops: Dataset[Batch], batch: int, start: int = 0, *, share: tuple[int, int] = (0, 1), workers: int = 0
) -> Iterator[Batch]:
    """Give the batches of a run: that of step k holds the crops k * batch to (k + 1) * batch - 1.

    Args:
        crops: gives each of them by its number.
        batch: crops per step, of all processes together.
        start: the first step.
        share: rank of this process, and how many there are; each takes its stretch of every batch, in the
            order of ranks.
        workers: processes that read ahead; the crops are the same. 0 is none.

    Returns:
        An endless iterator: each part of a crop, stacked (batch / processes, ...).

    Raises:
        UsageError: the batch cannot be divided by the number of processes.
        DataError: a worker died; while iterating, as what a picture raises.
    """
    rank, part = share[0], part_of(batch, share[1])
    firsts = (step * batch + rank * part for step in count(start))
    numbers = (range(first, first + part) for first in firsts)
    if workers:
        return _read_ahead(crops, numbers, workers)
    return (stack(crops, chosen) for chosen in numbers)


def part_of(batch: int, processes: int) -> int:
    """Crops of a batch that each process takes.

    Raises:
        UsageError: they cannot be divided.
    """
    if batch % processes:
        raise UsageError(f"batch={batch}: must be a multiple of the {processes} processes that share it")
    return batch // processes


def stack(crops: Dataset[Batch], numbers: Iterable[int]) -> Batch:
    """Crops of some numbers, each part stacked."""
    return tuple(map(torch.stack, zip(*(crops[number] for number in numbers), strict=True)))


class _Reader(Dataset[Batch | EscError]):
    """Batches as a worker gives them: an error is given, not raised, so that it arrives as one line.

    When `ended` is set, one that is being read is given unfinished, for nobody.
    """

    def __init__(self, crops: Dataset[Batch], ended: Event) -> None:
        self.crops = crops
        self.ended = ended

    def __getitem__(self, numbers: range) -> Batch | EscError:
        try:
            return stack(self.crops, takewhile(lambda number: not self.ended.is_set(), numbers))
        except EscError as error:
            return error


def _read_ahead(crops: Dataset[Batch], numbers: Iterator[range], workers: int) -> Iterator[Batch]:
    """Batches read by processes of their own.

    These are not forked from this one, since what is left of libvips' threads in a fork waits forever.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])  # torch is imported once for all
    ended = context.Event()
    loader = DataLoader(
        _Reader(crops, ended),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_begin,
        multiprocessing_context=context,
        generator=torch.Generator(),  # else its seed would be drawn from the global one
    )
    try:
        for item in loader:
            if isinstance(item, EscError):
                raise item
            yield item
    except (RuntimeError, OSError, EOFError) as error:  # the last two where a batch was on its way
        reason = str(error) or "its batch did not arrive"
        if reason.startswith("Caught") or (
            type(error) is RuntimeError and not reason.startswith("DataLoader")
        ):
            raise  # not a death, but an error in a worker or here
        raise DataError(
            f"a process that reads pictures ahead died ({reason.splitlines()[0]}); "
            "it may have lacked memory: use fewer --workers or less --cache"
        ) from error
    finally:
        ended.set()


def _as_it_is(item: Any) -> Any:
    """What a worker read is whole already."""
    return item


def _begin(worker: int) -> None:
    """Have a worker end with its run, and by nothing else.

    Ctrl-C, and what else is sent to a whole group, is for the run: it still wants its batch. A run that was
    killed says nothing, and torch looks at the fork server, which waits for its workers.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    Thread(target=_end_with_run, daemon=True).start()


def _end_with_run() -> None:
    run = multiprocessing.parent_process()
    assert run is not None
    run.join()
    os._exit(1)
