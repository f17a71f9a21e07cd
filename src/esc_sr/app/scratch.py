"""The folder of one server, which is gone when it ends, or when the next one begins after a crash."""

import contextlib
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from esc_sr.errors import ImageError
from esc_sr.machine.claim import Claim

_PREFIX = "esc-sr-app-"


class Scratch:
    """A folder that nobody else may read, claimed for as long as its process lives.

    Attributes:
        folder: The folder.
    """

    def __init__(self, parent: Path | None = None) -> None:
        """Make the folder, after what servers that were killed have left.

        Args:
            parent: Where; by default where temporary files lie.

        Raises:
            ImageError: The disk refuses.
        """
        parent = parent or Path(tempfile.gettempdir())
        self.folder = parent / f"{_PREFIX}{secrets.token_hex(8)}"
        try:
            self._claim = Claim(self.folder)
            self.folder.mkdir(mode=0o700)
        except OSError as error:
            raise ImageError(f"cannot write {self.folder}: {error.strerror}") from error
        if self._locks_hold():
            for folder in parent.glob(f"{_PREFIX}*"):
                _clear(folder)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._claim.close()

    def _locks_hold(self) -> bool:
        """Whether what is claimed cannot be claimed once more, which no disk without locks can promise."""
        try:
            Claim(self.folder).close()
        except OSError:
            return True
        return False


def _clear(folder: Path) -> None:
    """Remove a folder of ours, unless its server lives."""
    with contextlib.suppress(OSError):
        if hasattr(os, "getuid") and folder.lstat().st_uid != os.getuid():
            return
        with contextlib.closing(Claim(folder)):
            shutil.rmtree(folder)
