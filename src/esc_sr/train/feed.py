"""What a run sees: from the folders and files that it is given to its crops, and on to its batches."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from esc_sr.data.coordinates import cut_queries
from esc_sr.data.crops import Batch, Crops, batches, shares_of
from esc_sr.data.degrade import Degradation
from esc_sr.data.degraded import cut_hr, degrade_batches
from esc_sr.data.pairs import cut_pair
from esc_sr.data.pictures import Entry, Progress, Source, find_pictures
from esc_sr.data.pool import PairPool
from esc_sr.data.sources import Held, Reduced, hold, measure, measure_pairs
from esc_sr.errors import DataError, UsageError
from esc_sr.machine.memory import free_memory, parse_memory
from esc_sr.train.recipes import REAL, Recipe
from esc_sr.train.teacher import Teacher

SourcePair = tuple[Source, Source]

CACHE_PART = 0.5
"""Of the memory that is free, what decoded pictures may take unless the user says otherwise."""

_WORKERS = 4


def open_crops(
    recipe: Recipe,
    roots: Sequence[Sequence[Entry]],
    *,
    scale: int,
    mix: Sequence[float] | None,
    lr: Sequence[Path],
    cache: int,
    progress: Progress,
) -> Crops[Any]:
    """Look at all pictures, take into memory what fits, and say how crops are taken of them.

    Args:
        recipe: decides what a crop is.
        roots: HR pictures, as `find_pictures` lists them.
        scale: HR pixels per LR pixel along a side.
        mix: how often a crop comes from each root, relative to the others; None for every picture alike.
        lr: folders and .tar shards of LR pictures, one for each root, or none to make them.
        cache: bytes that decoded pictures may take.
        progress: called with (pictures done, pictures in all), for each pass.

    Raises:
        UsageError: not as many numbers or LR folders as roots, or LR for a recipe that makes its own.
        DataError: pictures are unreadable, too small, or have no LR that fits; names the first few.
    """
    shares = shares_of([len(entries) for entries in roots], mix)
    pictures: Sequence[Any]
    if lr:
        pictures = _stored_pairs(recipe, roots, lr, scale, cache, progress)
    else:
        side = round(recipe.patch * (recipe.scales[-1] if recipe.scales else scale))
        pictures = measure([entry for entries in roots for entry in entries], side, progress)
        if recipe.name in REAL:
            _require_context(pictures, recipe.context, scale)
        if recipe.name == "classic":
            pictures = _made_pairs(pictures, scale, cache, progress)
        else:
            pictures = hold(pictures, cache, progress)
    return Crops(pictures, _cut(recipe, scale), recipe.seed, shares)


def stream(
    crops: Crops[Any],
    recipe: Recipe,
    *,
    scale: int,
    pool: PairPool,
    device: torch.device,
    start: int,
    share: tuple[int, int],
    workers: int,
    teacher: Teacher | None = None,
) -> Iterator[Batch]:
    """The batches of a run from a step on, as `data.crops.batches` has them; for `REAL`, degraded.

    Args:
        crops: of `open_crops`.
        recipe: of the run.
        scale: HR pixels per LR pixel along a side.
        pool: of the run, for `REAL`.
        device: where training is done.
        start: the step of the first batch.
        share: rank of this process, and how many there are.
        workers: processes that read ahead.
        teacher: gives the target, where LR is not the same every time.

    Raises:
        UsageError: the batch cannot be divided by the number of processes.
    """
    given = batches(crops, recipe.batch, start, share=share, workers=workers)
    if recipe.name == "arbitrary" and teacher:
        return teacher.colours(given)
    if recipe.name not in REAL:
        return given
    return degrade_batches(
        given,
        Degradation(scale=scale, clean=recipe.clean),
        patch=recipe.patch,
        pool=pool,
        device=device,
        seed=recipe.seed,
        start=start,
        rank=share[0],
        redraw=recipe.redraw,
        flat=recipe.flat,
        teach=teacher.answer if teacher else None,
    )


def cache_bytes(cache: str | int | None, processes: int) -> int:
    """Memory for decoded pictures: what is wished for, or a safe part of what is free, for each process.

    Raises:
        UsageError: no amount of memory.
    """
    if cache is None:
        return int(CACHE_PART * free_memory(torch.device("cpu"))) // processes
    return 0 if str(cache) == "0" else parse_memory(cache)


def default_workers(crops: Crops[Any], device: torch.device) -> int:
    """How many processes read ahead: none where they would take the cores that train from them."""
    if not hasattr(os, "fork") or (device.type == "cpu" and all(map(_in_memory, crops.pictures))):
        return 0
    return min(_WORKERS, os.cpu_count() or 1)


def _in_memory(picture: Source | SourcePair) -> bool:
    """Whether no crop of a picture, or of a pair, has to be decoded."""
    return all(isinstance(side, Held) for side in (picture if isinstance(picture, tuple) else (picture,)))


def _cut(recipe: Recipe, scale: int) -> Callable[[Any, np.random.Generator], Batch]:
    """How a recipe takes a crop of a picture, or of a pair."""
    if recipe.name == "classic":
        return partial(cut_pair, scale=scale, patch=recipe.patch, flat=recipe.flat)
    if recipe.name in REAL:
        return partial(cut_hr, side=scale * recipe.context)
    scales = recipe.scales[0], recipe.scales[1]
    return partial(cut_queries, patch=recipe.patch, scales=scales, queries=recipe.queries)


def _made_pairs(hr: Sequence[Source], scale: int, cache: int, progress: Progress) -> list[SourcePair]:
    """Pairs (LR, HR) whose LR is made: once if both fit into memory, else for each crop."""
    held = hold(hr, cache * scale**2 // (scale**2 + 1), progress)
    fits = sum(isinstance(source, Held) for source in held)
    low = [Reduced(source, scale) for source in held]
    return list(zip([*hold(low[:fits], cache), *low[fits:]], held, strict=True))


def _stored_pairs(
    recipe: Recipe,
    roots: Sequence[Sequence[Entry]],
    lr: Sequence[Path],
    scale: int,
    cache: int,
    progress: Progress,
) -> list[SourcePair]:
    """Pairs (LR, HR) of files."""
    if recipe.name != "classic":
        raise UsageError(f"--lr {lr[0]}: the recipe {recipe.name} makes its own LR; leave it out")
    if len(lr) != len(roots):
        raise UsageError(f"--lr given {len(lr)} times for {len(roots)} --data; give one for each, or none")
    pairs = [
        pair
        for hr, low in zip(roots, lr, strict=True)
        for pair in measure_pairs(hr, find_pictures(low), scale, recipe.patch, progress)
    ]
    sides = hold([side for pair in pairs for side in pair], cache, progress)
    return list(zip(sides[::2], sides[1::2], strict=True))


def _require_context(sources: Sequence[Source], context: int, scale: int) -> None:
    """Refuse pictures that the crop to degrade does not fit into."""
    least = min(sources, key=lambda source: min(source.size))
    side = min(least.size)
    if side < scale * context:
        raise DataError(
            f"{least.name}: {least.size[1]} x {least.size[0]} px, at least {scale * context} px needed "
            f"on each side; use larger pictures or --set context={side // scale}"
        )
