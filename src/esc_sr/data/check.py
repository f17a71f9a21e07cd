"""What is wrong with training pictures, found out before a run: all of it, not only the first few."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from esc_sr.data.pictures import Entry, Progress, find_pictures, in_threads, no_progress
from esc_sr.data.sets import misfit
from esc_sr.data.sources import match
from esc_sr.errors import ImageError, UsageError

KINDS = ("unreadable", "small", "unpaired", "mismatch", "duplicate")
"""Cannot be decoded; below the least side; without HR or LR; of another size than LR; pixels seen before."""


class Finding(NamedTuple):
    """What is wrong with a picture: one of `KINDS`, its root and name, and a line that says more."""

    kind: str
    picture: str
    text: str


class _Look(NamedTuple):
    """What was seen of a picture: height and width, px, and a digest of all pixels; or why nothing was."""

    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    fault: str = ""


def check_pictures(
    roots: Sequence[Path],
    lr: Sequence[Path] = (),
    *,
    scale: int = 4,
    patch: int = 64,
    progress: Progress = no_progress,
) -> tuple[int, list[Finding]]:
    """Decode all pictures, several at a time, and list those that a training could not use, or sees twice.

    Args:
        roots: folders and .tar shards of HR pictures.
        lr: likewise of LR pictures, one for each of `roots`, or none.
        scale: HR pixels per LR pixel along a side.
        patch: side of an LR crop, px; HR needs `scale` times that.
        progress: called with (pictures done, pictures in all).

    Returns:
        How many pictures there are, and what is wrong, in the order of `roots`.

    Raises:
        UsageError: not as many LR folders as roots.
        DataError: a root is missing, or holds no picture.
    """
    if lr and len(lr) != len(roots):
        raise UsageError(f"{len(lr)} --lr for {len(roots)} folders; give one for each, or none")
    high = {root: find_pictures(root) for root in roots}
    low = {root: find_pictures(root) for root in lr}
    places = [(root, entry) for side in (high, low) for root, listed in side.items() for entry in listed]
    looks: dict[Entry, _Look] = {}
    entries = [entry for _, entry in places]
    for done, (entry, look) in enumerate(zip(entries, in_threads(_look, entries), strict=True), start=1):
        looks[entry] = look
        progress(done, len(places))
    findings = [
        Finding("unreadable", str(root / entry.name), looks[entry].fault)
        for root, entry in places
        if looks[entry].fault
    ]
    findings += _small(high, looks, scale * patch)
    for hr_root, lr_root in zip(roots, lr, strict=False):
        findings += _misfits(hr_root, high[hr_root], low[lr_root], looks, scale)
    return len(places), findings + _duplicates(high, looks)


def _look(entry: Entry) -> _Look:
    """Decode a picture: its size and a digest of its pixels, or what is wrong with it."""
    try:
        pixels = entry.read()
    except ImageError as error:
        return _Look(fault=str(error))
    digest = blake2b(repr(pixels.shape).encode())
    digest.update(pixels.data)
    return _Look((pixels.shape[0], pixels.shape[1]), digest.digest())


def _small(roots: dict[Path, list[Entry]], looks: dict[Entry, _Look], least: int) -> list[Finding]:
    """Pictures that a crop does not fit into."""
    return [
        Finding("small", str(root / entry.name), f"{size[1]} x {size[0]} px, {least} needed on each side")
        for root, listed in roots.items()
        for entry in listed
        if not (look := looks[entry]).fault and min(size := look.size) < least
    ]


def _misfits(
    root: Path, hr: Sequence[Entry], lr: Sequence[Entry], looks: dict[Entry, _Look], scale: int
) -> list[Finding]:
    """Pictures without a partner, and pairs whose sizes do not fit."""
    pairs, lonely = match(hr, lr, scale)
    findings = [Finding("unpaired", str(root), line) for line in lonely]
    for high, low in pairs:
        if looks[high].fault or looks[low].fault:
            continue
        fault = misfit(high.name, looks[high].size, looks[low].size, scale)
        if fault:
            findings.append(Finding("mismatch", str(root / high.name), fault))
    return findings


def _duplicates(roots: dict[Path, list[Entry]], looks: dict[Entry, _Look]) -> list[Finding]:
    """Pictures whose pixels are those of an earlier one, in whatever root or format."""
    first: dict[bytes, str] = {}
    findings = []
    for root, listed in roots.items():
        for entry in listed:
            if look := looks[entry].digest:
                picture = str(root / entry.name)
                original = first.setdefault(look, picture)
                if original != picture:
                    findings.append(Finding("duplicate", picture, f"same pixels as {original}"))
    return findings
