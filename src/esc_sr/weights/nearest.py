"""Networks whose tensors have names much like those in a file that is of none of them, for its refusal."""

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

from esc_sr import families
from esc_sr.families.family import Family
from esc_sr.weights.container import some_names

ALIKE = 0.2
"""The share of kinds of names, of all that a file and a network have, from which they are alike."""


class _Kinds(NamedTuple):
    """Names of a network of a family, by their kinds, in its authors' words or ours."""

    network: str
    names: dict[str, str]


def nearest(names: Iterable[str], most: int = 2) -> list[str]:
    """Tell which networks a file is most like, and by which names it differs.

    Args:
        names: Of the tensors in the file.
        most: How many networks to tell of.

    Returns:
        For each, best first, its name, how much is alike, and some names that the file lacks, or has beside
        them; those that differ only in their numbers are one kind.
    """
    theirs = _by_kind(names)
    best: dict[str, str] = {}
    for one in sorted(_known(), key=lambda one: -_share(one.names, theirs)):
        share = _share(one.names, theirs)
        if share >= ALIKE and len(best) < most:
            differences = _differences(one.names, theirs)
            best.setdefault(one.network, f"{one.network} ({share:.0%} alike{differences})")
    return list(best.values())


def _share(a: dict[str, str], b: dict[str, str]) -> float:
    """How many of all kinds both have."""
    return len(a.keys() & b.keys()) / max(len(a.keys() | b.keys()), 1)


def _differences(wanted: dict[str, str], found: dict[str, str]) -> str:
    """Some names that only one of two has."""
    lists = {"lacks": (wanted, found), "has besides": (found, wanted)}
    only = {word: [a[kind] for kind in a if kind not in b] for word, (a, b) in lists.items()}
    return "".join(f"; the file {word} {some_names(names, 2)}" for word, names in only.items() if names)


def _by_kind(names: Iterable[str]) -> dict[str, str]:
    """The first name of each kind."""
    kinds: dict[str, str] = {}
    for name in names:
        kinds.setdefault(re.sub(r"\d+", "*", name), name)
    return kinds


@functools.cache
def _known() -> tuple[_Kinds, ...]:
    """Of each family the network that it names first, by its authors' names and by ours."""
    return tuple(kinds for family in families.FAMILIES if family.presets for kinds in _of(family))


def _of(family: Family) -> Iterable[_Kinds]:
    config = next(iter(next(iter(family.presets.values())).values()))
    ours = list(families.blank(config).state_dict())
    official = family.official_names(config, ours)
    yield _Kinds(family.name, _by_kind(official.get(name, name) for name in ours))
    if any(name != theirs for name, theirs in official.items()):
        yield _Kinds(family.name, _by_kind(ours))
