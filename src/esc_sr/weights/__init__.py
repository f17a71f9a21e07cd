"""Weights: our own files and checkpoints as users have them, to networks and back.

What is public here is imported when it is first used, since the list of what is bundled needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esc_sr.weights.bundle import (
        ADVICE,
        bundled,
        bundled_scales,
        card,
        family_of,
        files_of,
        find,
        is_weak,
    )
    from esc_sr.weights.checkpoint import save
    from esc_sr.weights.conversion import convert, mix_files, starting_weights
    from esc_sr.weights.mixture import mix
    from esc_sr.weights.opening import digest, load

__all__ = [
    "ADVICE",
    "bundled",
    "bundled_scales",
    "card",
    "convert",
    "digest",
    "family_of",
    "files_of",
    "find",
    "is_weak",
    "load",
    "mix",
    "mix_files",
    "save",
    "starting_weights",
]

_HOMES = {
    "bundle": (
        "ADVICE",
        "bundled",
        "bundled_scales",
        "card",
        "family_of",
        "files_of",
        "find",
        "is_weak",
    ),
    "checkpoint": ("save",),
    "conversion": ("convert", "mix_files", "starting_weights"),
    "mixture": ("mix",),
    "opening": ("digest", "load"),
}


def __getattr__(name: str) -> Any:
    """Import what is public when it is first used."""
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return globals()[name]
