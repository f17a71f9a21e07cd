"""Where graphs that were made for an engine are kept, since making one takes a minute or two."""

import os
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

from esc_sr import __version__
from esc_sr.errors import UsageError
from esc_sr.export import OPSET, export
from esc_sr.families.contract import Network
from esc_sr.runtimes import SUFFIXES
from esc_sr.weights import digest


def store_folder() -> Path:
    """The user's folder for what can be made again: `XDG_CACHE_HOME/esc-sr`, or that of the system."""
    usual = {"darwin": "~/Library/Caches", "win32": os.environ.get("LOCALAPPDATA") or "~"}
    base = os.environ.get("XDG_CACHE_HOME") or usual.get(sys.platform, "~/.cache")
    return Path(base).expanduser() / "esc-sr"


def graph_of(network: Network, kind: str, tell: Callable[[str], object]) -> Path:
    """Find the graph of a network with these weights, or make it.

    Args:
        network: On the CPU; stays as it is.
        kind: One of `SUFFIXES`.
        tell: Is told before one is made.

    Raises:
        UsageError: The network is not one of `families.FAMILIES`, what makes graphs is not installed, or the
            folder cannot be written.
        WeightsError: The graph differs from the network.
    """
    same = digest(network)
    path = store_folder() / f"{same[:32]}-{__version__}-{OPSET}{SUFFIXES[kind]}"
    if not path.is_file() and not path.with_stem(f"{path.stem}-query").is_file():
        tell(f"making a graph for {kind}, once: a minute or two; it is kept in {path.parent}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{path.parent}: cannot be made ({error.strerror}); set XDG_CACHE_HOME"
            ) from error
        export(deepcopy(network).float(), path, kind, overwrite=True)
    return path
