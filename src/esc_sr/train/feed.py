"""What a run sees: from the folders and files that it is given to its crops, and on to its batches."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from esc_sr.data.crops import Batch, Crops, batches, shares_of
from esc_sr.data.pictures import Entry, find_pictures
from esc_sr.data.pool import PairPool
from esc_sr.data.sources import Held
from esc_sr.errors import DataError, UsageError
from esc_sr.machine.memory import free_memory, parse_memory
from esc_sr.train.recipes import Recipe
from esc_sr.train.setup import Setup

CACHE_PART = 0.5
_ELSE = 2**30
"""Of the memory that is free beyond `_ELSE` bytes, what decoded pictures may take unless the user says
otherwise; the rest is for training and for processes that read ahead."""

_WORKERS = 4


@dataclass(frozen=True)
class Data:
    """The pictures of a run, and how they are read.

    Attributes:
        roots: folders and .tar shards of HR pictures.
        mix: how often a crop comes from each root, relative to the others; None for every picture alike.
        lr: folders and .tar shards of LR pictures, one for each root; by default LR is made.
        val: folder or .tar shard of held-out HR pictures.
        cache: memory for decoded pictures, as "4GiB", or "0"; by default half of what is free beyond
            1 GiB.
        workers: processes that read ahead; by default none where all pictures are in memory and training is
            on the CPU. The crops are the same.
    """

    roots: Sequence[Path]
    mix: Sequence[float] | None = None
    lr: Sequence[Path] = ()
    val: Path | None = None
    cache: str | int | None = None
    workers: int | None = None

    def find(self) -> tuple[list[list[Entry]], list[Entry]]:
        """List the pictures of each root, and those held out.

        Raises:
            DataError: a folder is missing or holds no picture, or a picture is in both.
        """
        roots = [find_pictures(root) for root in self.roots]
        held_out = find_pictures(self.val) if self.val else []
        places = [(entry.path, entry.offset) for listed in roots for entry in listed]
        shared = {(entry.path, entry.offset) for entry in held_out}.intersection(places)
        if shared:
            raise DataError(
                f"{self.val}: {len(shared)} held-out pictures are training data too; keep them apart"
            )
        return roots, held_out


def open_crops(recipe: Recipe, setup: Setup, mix: Sequence[float] | None = None) -> Crops[Any]:
    """Look at all pictures, take into memory what fits, and say how crops are taken of them.

    Args:
        recipe: decides what a crop is.
        setup: gives the pictures.
        mix: as of `Data`.

    Raises:
        UsageError: not as many numbers or LR folders as roots, or a mix or LR for a recipe that takes none.
        DataError: pictures are unreadable, too small, or have no LR that fits; names the first few.
    """
    shares = shares_of([len(entries) for entries in setup.roots], mix)
    if shares and recipe.per_epoch:
        raise UsageError(
            f"--mix: per_epoch={recipe.per_epoch} takes all pictures alike; leave one of the two out"
        )
    cut = partial(recipe.cut, scale=setup.scale)
    return Crops(recipe.pictures(setup), cut, recipe.seed, shares, recipe.per_epoch)


def stream(
    recipe: Recipe, crops: Crops[Any], setup: Setup, pool: PairPool, start: int, workers: int | None = None
) -> Iterator[Batch]:
    """The batches of a run from a step on: those of `data.crops.batches`, as the recipe makes use of them.

    Args:
        recipe: of the run.
        crops: of `open_crops`.
        setup: of the run.
        pool: of the run.
        start: the step of the first batch.
        workers: as of `Data`.

    Raises:
        UsageError: the batch cannot be divided by the number of processes.
    """
    ahead = default_workers(crops, setup.device) if workers is None else workers
    given = batches(crops, recipe.batch, start, share=setup.share, workers=ahead)
    return recipe.batches(given, setup, pool, start)


def first_batch(recipe: Recipe, setup: Setup) -> Batch:
    """A batch of crops of the first picture alone, its LR made and HR the target: of the shapes of a run's.

    Raises:
        UsageError, DataError: as of `open_crops`.
    """
    roots, cache = [setup.roots[0][:1]], max(setup.cache, 2**28)  # so that it is decoded once
    alone = replace(
        setup,
        roots=roots,
        lr=(),
        cache=cache,
        teacher=None,
        teacher_cluster=None,
        report=lambda record: None,
    )
    crops = open_crops(recipe, alone)
    return next(stream(recipe, crops, alone, recipe.make_pool(setup.share[1]), 0, workers=0))


def cache_bytes(cache: str | int | None, processes: int) -> int:
    """Memory for decoded pictures: what is wished for, or a safe part of what is free, for each process.

    Raises:
        UsageError: no amount of memory.
    """
    if cache is None:
        return int(CACHE_PART * max(free_memory(torch.device("cpu")) - _ELSE, 0)) // processes
    return 0 if str(cache) == "0" else parse_memory(cache)


def default_workers(crops: Crops[Any], device: torch.device) -> int:
    """How many processes read ahead: none where they would take the cores that train from them."""
    if not hasattr(os, "fork") or (device.type == "cpu" and all(map(_in_memory, crops.pictures))):
        return 0
    return min(_WORKERS, os.cpu_count() or 1)


def _in_memory(picture: Any) -> bool:
    """Whether no crop of a picture, or of a pair, has to be decoded."""
    return all(isinstance(side, Held) for side in (picture if isinstance(picture, tuple) else (picture,)))
