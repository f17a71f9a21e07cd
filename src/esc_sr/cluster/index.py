"""Which outputs are taken, by which input, and which are done: on the disk, so that memory stays as it is."""

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from esc_sr.errors import ImageError
from esc_sr.machine.memory import scratch_folder


@contextmanager
def _written(*errors: type[Exception]) -> Iterator[None]:
    """Turn what the disk answers into one error."""
    try:
        yield
    except errors as error:
        raise ImageError(
            f"the index of the outputs cannot be written ({error}); set TMPDIR to a folder with more room"
        ) from error


class Known(NamedTuple):
    """What a manifest has of an output."""

    status: str
    sha256: str | None


class Index:
    """Two tables in a temporary file; a context, after which it is gone.

    Raises:
        ImageError: The disk of the temporary file refuses, at once or later.
    """

    @_written(sqlite3.Error, OSError)
    def __init__(self) -> None:
        with ExitStack() as unless_made:
            folder = unless_made.enter_context(
                tempfile.TemporaryDirectory(prefix="esc-sr-", dir=scratch_folder())
            )
            self._base = sqlite3.connect(Path(folder) / "index.sqlite", isolation_level=None)
            self._ended = unless_made.pop_all()
        for setting in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE"):
            self._base.execute(f"PRAGMA {setting}")
        self._base.execute("CREATE TABLE taken (place BLOB PRIMARY KEY, source BLOB) WITHOUT ROWID")
        self._base.execute(
            "CREATE TABLE rows (target BLOB PRIMARY KEY, status TEXT, sha256 TEXT) WITHOUT ROWID"
        )

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *error: object) -> None:
        self._base.close()
        self._ended.close()

    @_written(sqlite3.Error)
    def take(self, wanted: Sequence[tuple[bytes, bytes]]) -> list[bytes | None]:
        """Have outputs taken by inputs, of which the first one gets it.

        Args:
            wanted: The place of each output (`name_on_disk`), and its input.

        Returns:
            The input that has each output already; None where it is free.
        """
        insert = "INSERT INTO taken VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING NULL"
        found: list[bytes | None] = []
        self._base.execute("BEGIN")
        for place, source in wanted:
            row = self._base.execute(insert, (place, source)).fetchone()
            if row is None:
                row = self._base.execute("SELECT source FROM taken WHERE place = ?", (place,)).fetchone()
            found.append(row[0])
        self._base.execute("COMMIT")
        return found

    @_written(sqlite3.Error)
    def add(self, rows: Iterable[tuple[str, Known]]) -> None:
        """Take note of rows of manifests, by their target; the last one counts, but what is done stays so."""
        self._base.execute("BEGIN")
        self._base.executemany(
            "INSERT INTO rows VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
            "SET status = excluded.status, sha256 = excluded.sha256 "
            "WHERE status != 'done' OR excluded.status = 'done'",
            ((os.fsencode(target), *known) for target, known in rows),
        )
        self._base.execute("COMMIT")

    @_written(sqlite3.Error)
    def row(self, target: str) -> Known | None:
        """What the manifests have of an output, if anything."""
        question = "SELECT status, sha256 FROM rows WHERE target = ?"
        found = self._base.execute(question, (os.fsencode(target),)).fetchone()
        return found and Known(*found)
