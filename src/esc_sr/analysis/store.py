"""Results kept beside a figure, so that it can be drawn again without computing them again."""

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esc_sr import __version__, weights
from esc_sr.errors import UsageError
from esc_sr.families.contract import Network
from esc_sr.machine.claim import whole_file

Arrays = Mapping[str, NDArray[Any]]
"""What an analysis computes, by name."""


def key_of(*parts: Any) -> str:
    """A name for what is computed from these: networks, arrays, and what JSON can hold.

    It changes with every number in them, and with the version of this package.
    """
    found = sha256(__version__.encode())
    for part in parts:
        if isinstance(part, Network):
            found.update(weights.digest(part).encode())
        elif isinstance(part, np.ndarray):
            found.update(f"{part.shape} {part.dtype}".encode() + np.ascontiguousarray(part).tobytes())
        else:
            found.update(json.dumps(part).encode())
        found.update(b"\0")
    return found.hexdigest()[:32]


class Store:
    """A file of arrays (.npz), by the keys of what they were computed from.

    A file that is missing, or cannot be read, holds nothing. What is not asked for again goes.
    """

    def __init__(self, file: Path) -> None:
        """Read the file, if it is there."""
        self.file = file
        self._had = _read(file)
        self._used: dict[str, Arrays] = {}

    def get(self, key: str, compute: Callable[[], Arrays]) -> Arrays:
        """What the file holds under a key; otherwise it is computed, and the file written.

        Raises:
            UsageError: The file cannot be written.
        """
        if key in self._had:
            self._used[key] = self._had[key]
        else:
            self._used[key] = compute()
            self._write()
        return self._used[key]

    def _write(self) -> None:
        """Write what was used, and what may yet be."""
        arrays = {
            f"{key}/{name}": a for key, group in (self._had | self._used).items() for name, a in group.items()
        }
        data = io.BytesIO()
        np.savez_compressed(data, allow_pickle=False, **arrays)
        try:
            with whole_file(self.file) as file:
                file.write(data.getbuffer())
        except OSError as error:
            raise UsageError(f"{self.file}: cannot be written ({error.strerror})") from error

    def close(self) -> None:
        """Leave in the file what was used, and nothing else."""
        if self._had.keys() - self._used.keys():
            self._had = {}
            self._write()


def _read(file: Path) -> dict[str, Arrays]:
    """The arrays of a file, by key and name."""
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for path in arrays.files:
                key, _, name = path.partition("/")
                groups.setdefault(key, {})[name] = arrays[path]
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}
    return dict(groups)
