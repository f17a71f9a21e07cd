"""Results as one ZIP archive, made while it is sent: it takes neither disk nor memory."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any
from zipfile import ZipFile, ZipInfo

_PIECE = 2**20  # bytes that are read and sent at a time


class _Written(io.RawIOBase):
    """What has been written since it was last taken."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._bytes += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken


def pack(files: Iterable[tuple[str, Path]]) -> Iterator[bytes]:
    """The bytes of an archive.

    Pictures are compressed already, so they are stored as they are.

    Args:
        files: What each is called, different from all others, and where it is.
    """
    written = _Written()
    with ZipFile(written, "w") as archive:
        for name, path in files:
            with open(path, "rb") as file, archive.open(ZipInfo.from_file(path, name), "w") as member:
                while piece := file.read(_PIECE):
                    member.write(piece)
                    yield written.take()
    yield written.take()


def told_apart(names: Iterable[str]) -> list[str]:
    """Names of files that stay apart in one folder, on every disk: "a.png", "A (2).png"."""
    apart: list[str] = []
    taken: set[str] = set()
    for name in names:
        path, number, one = PurePath(name), 1, name
        while one.casefold() in taken:
            number += 1
            one = f"{path.stem} ({number}){path.suffix}"
        taken.add(one.casefold())
        apart.append(one)
    return apart
