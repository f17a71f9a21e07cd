"""The compiled library: found beside this file, loaded when first wanted, used at the wished level."""

import ctypes
import functools
import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from esc_sr.errors import DeviceError, UsageError

LEVELS = ("generic", "avx2", "avx512")
"""Sets of processor instructions that kernels are compiled for, the best last; all have the first."""

VARIABLE = "ESC_SR_NATIVE"
INTERFACE = 1  # of library.cpp


def available() -> bool:
    """Tell whether kernels can be used.

    Raises:
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
        DeviceError: `ESC_SR_NATIVE` names a level that is not there.
    """
    return level() is not None


def level() -> str | None:
    """Name the level in use, one of `LEVELS`; None without a library, or with `ESC_SR_NATIVE=off`.

    Raises:
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
        DeviceError: `ESC_SR_NATIVE` names a level that is not there.
    """
    return _chosen(os.environ.get(VARIABLE) or "auto")


def describe() -> str:
    """Say in a few words which level is in use, or why none is.

    Raises:
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
        DeviceError: `ESC_SR_NATIVE` names a level that is not there.
    """
    found = level()
    return found or (f"off, by {VARIABLE}" if os.environ.get(VARIABLE) == "off" else load()[1])


@functools.cache
def _chosen(wish: str) -> str | None:
    if wish not in ("auto", "off", *LEVELS):
        raise UsageError(f"{VARIABLE}={wish}: unknown; set it to auto, off, {', '.join(LEVELS)}")
    if wish == "off":
        return None
    library, why_not = load()
    there = [name for name in LEVELS if library and library.esc_sr_has_level(name.encode())]
    if wish == "auto":
        return there[-1] if there else None
    if wish not in there:
        why = why_not or f"not on this processor, which has {', '.join(there)}"
        raise DeviceError(f"{VARIABLE}={wish}: {why}; set it to auto")
    return wish


@functools.cache
def load() -> tuple[ctypes.CDLL | None, str]:
    """Load the library; without one, None and the reason."""
    places = (Path(__file__).with_name(f"_kernels{suffix}") for suffix in EXTENSION_SUFFIXES)
    path = next((place for place in places if place.exists()), None)
    if path is None:
        return None, "not built: no C++ compiler when esc-sr was installed (pip install -v shows more)"
    try:
        library = ctypes.CDLL(str(path))
        interface = library.esc_sr_interface()
    except (OSError, AttributeError) as error:
        return None, f"cannot be loaded: {error}"
    if interface != INTERFACE:
        return None, "made from other sources; install esc-sr again"
    return library, ""
