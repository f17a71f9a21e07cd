"""What was done in an output folder: a file of JSON lines for each run, which a crash cuts off nothing of.

A picture that is done is a row in one of them, once. Before pictures are begun their outputs are noted in a
hidden file beside, which goes when the run ends. Where one is found that no run holds, what is there of its
outputs and has no row was finished by that run in its last moment, and gets its row then.
"""

import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from esc_sr.cluster.index import Index, Known
from esc_sr.errors import EscError, ImageError
from esc_sr.image import read_size
from esc_sr.upscaling.files import Job
from esc_sr.upscaling.places import Place

ManifestRow = dict[str, Any]
"""What stands in a line: source, target, status and what else there is to tell, as JSON has it."""

_CHUNK = 1000


class Manifest:
    """The rows of one run, and what those before it have done; a context.

    Attributes:
        path: The file.
    """

    def __init__(self, folder: Path, index: Index, facts: ManifestRow, sha256: str | None) -> None:
        """Begin the file of a run, and read those of others.

        Args:
            folder: Of the outputs; made if it is new, its parent may not be.
            index: Is told what the others have done.
            facts: What is the same in all rows: how the pictures are enlarged.
            sha256: Of the weights' file, if that is the same for all pictures.

        Raises:
            ImageError: The folder cannot be written to.
        """
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        self.path, self._begun = folder / f"manifest-{name}.jsonl", folder / f".esc-sr-{name}.begun"
        self._folder, self._index, self._facts = folder, index, facts | {"run": name}
        self._prefix = os.path.join(folder, "")
        try:
            folder.mkdir(exist_ok=True)
            for path in sorted(folder.glob("manifest-*.jsonl")):
                _index(path, index)
            self._journal = open(self._begun, "xb")
            with suppress(OSError):  # there are disks without locks
                _lock(self._journal)
            self._file = open(self.path, "xb")
            _append(self._journal, [self._facts | {"sha256": sha256}])
            self._recover()
        except OSError as error:
            raise ImageError(f"{folder}: cannot be written to ({error.strerror})") from error

    def __enter__(self) -> "Manifest":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        os.fsync(self._file.fileno())
        self._file.close()
        self._journal.close()
        if kind is None:
            self._begun.unlink()
        if not self.path.stat().st_size:
            self.path.unlink()

    def begin(self, jobs: Sequence[Job]) -> None:
        """Note the outputs that are not there, before anybody may make them; a run may be to replace others.

        Raises:
            ImageError: The disk refuses.
        """
        new = [job for job in jobs if not os.path.lexists(str(job.target))]
        self._write(self._journal, True, [[self.name(job.target), str(job.source)] for job in new])

    def name(self, target: Place) -> str:
        """What an output is called in the rows: its path from the folder on, the same on all machines."""
        assert isinstance(target, Path)
        return os.fspath(target).removeprefix(self._prefix).replace(os.sep, "/")

    def add(self, rows: Sequence[ManifestRow]) -> None:
        """Write rows, which outlive this process; the hidden file makes up for a crash of the machine.

        Raises:
            ImageError: As `begin`.
        """
        self._write(self._file, False, [row | self._facts | {"time": round(time.time(), 3)} for row in rows])

    def _write(self, file: BinaryIO, sync: bool, lines: Sequence[Any]) -> None:
        try:
            _append(file, lines, sync)
        except OSError as error:
            raise ImageError(f"{self._folder}: cannot be written to ({error.strerror})") from error

    def _recover(self) -> None:
        """Write the rows that runs which were killed owe."""
        for path in sorted(self._folder.glob(".esc-sr-*.begun")):
            if path == self._begun:
                continue
            try:
                with open(path, "r+b") as file:
                    if not _lock(file):
                        continue  # its run goes on
                    _index(
                        path.with_name(f"manifest-{path.stem.removeprefix('.esc-sr-')}.jsonl"), self._index
                    )
                    self._pay(_lines(path))
                path.unlink()
            except FileNotFoundError:
                continue  # another run has done it
            except BlockingIOError:
                continue

    def _pay(self, lines: Iterator[Any]) -> None:
        """Write the rows of what a run has begun, and finished."""
        facts: ManifestRow = next(lines, {})
        owed: list[ManifestRow] = []
        for target, source in lines:
            if not is_done(self._index.row(target)) and (self._folder / target).is_file():
                row = {"source": source, "target": target, "status": "done"}
                owed.append(row | self._size(target) | facts | {"time": round(time.time(), 3)})
            if len(owed) == _CHUNK:
                self._settle(owed)
        self._settle(owed)

    def _size(self, target: str) -> ManifestRow:
        """The size of an output whose row is owed."""
        try:
            height, width = read_size(self._folder / target)
        except EscError:
            return {}
        return {"target_size": [width, height]}

    def _settle(self, owed: list[ManifestRow]) -> None:
        """Write rows, and know them."""
        _append(self._file, owed)
        self._index.add((row["target"], Known("done", row.get("sha256"))) for row in owed)
        owed.clear()


def is_done(known: Known | None) -> bool:
    """Whether an output has a row that says so."""
    return known is not None and known.status == "done"


def _index(path: Path, index: Index) -> None:
    """Read a manifest into an index."""
    index.add(
        (row["target"], Known(row["status"], row.get("sha256")))
        for row in _lines(path)
        if isinstance(row, dict) and row.get("target") and row.get("status")
    )


def _lines(path: Path) -> Iterator[Any]:
    """The lines of a file that are whole; none of one that is not there."""
    try:
        with open(path, "rb") as file:
            for line in file:
                with suppress(ValueError):  # the last one may be cut off
                    yield json.loads(line)
    except FileNotFoundError:
        return


def _append(file: BinaryIO, lines: Iterable[Any], sync: bool = True) -> None:
    """Write lines, and have them on the disk if wanted."""
    file.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    file.flush()
    if sync:
        os.fsync(file.fileno())


def _lock(file: BinaryIO) -> bool:
    """Lock a file for as long as it is open; false where somebody else has."""
    from filelock import lock_descriptor

    return lock_descriptor(file.fileno(), blocking=False)
