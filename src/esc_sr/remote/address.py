"""An address of a file or folder in a store, as a path is one on this machine."""

import errno
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import PurePath, PurePosixPath
from urllib.parse import unquote, urlsplit

from esc_sr.errors import UsageError
from esc_sr.remote.faults import NO_BUCKET
from esc_sr.remote.stores import RemoteStore, file_system_class

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_MAGIC = re.compile(r"[*?[]")
_AT_ONCE = 2**26  # bytes of a file that are read whatever it is
_START = 2**16  # bytes, more than any format needs to be told


def is_address(name: str) -> bool:
    """Whether a text is an address of any kind, also of a file on this machine."""
    return _SCHEME.match(name) is not None


@dataclass(frozen=True, slots=True)
class Address:
    """A file or folder in a store, which may be new; `str` of it has no secrets.

    A run keeps one for each picture and one for its output: 400 bytes together, with paths of 30 letters, and
    1,000 while it looks for pictures.

    Attributes:
        store: Where.
        head: What is shown before the path.
        path: As fsspec has it; of a file that is read by HTTP the whole address.
        size: Of a file in bytes, where the store has told.
        is_folder: Whether the store has told that it is one.
    """

    store: RemoteStore
    head: str = field(compare=False, repr=False)
    path: str = field(repr=False)
    size: int | None = field(default=None, compare=False, repr=False)
    is_folder: bool = field(default=False, compare=False, repr=False)

    def __str__(self) -> str:
        return self.head + (self.path if self.head else shown(self.path))

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    @property
    def _plain(self) -> PurePosixPath:
        """The path without what HTTP writes otherwise."""
        return PurePosixPath(self.path if self.head else unquote(urlsplit(self.path).path))

    @property
    def _inside(self) -> str:
        """How the path of what is in this folder begins."""
        return f"{self.path.rstrip('/')}/" if self.path else ""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._plain.name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self._plain.stem

    @property
    def suffix(self) -> str:
        """What the name ends in, from its last dot."""
        return self._plain.suffix

    @property
    def parent(self) -> "Address":
        """The folder around it."""
        return self._at(self.path.rstrip("/").rpartition("/")[0] or "/" * self.path.startswith("/"))

    def with_name(self, name: str) -> "Address":
        """Another name in the same folder."""
        return self.parent / name

    def __truediv__(self, below: str | PurePath) -> "Address":
        inside = below if isinstance(below, str) else below.as_posix()
        return self if inside == "." else self._at(f"{self._inside}{inside}")

    def below(self, folder: "Address") -> PurePosixPath:
        """The path as it is seen from a folder in which it was found; never an absolute one."""
        inside = self.path.removeprefix(folder._inside)
        return PurePosixPath((inside if self.head else unquote(urlsplit(inside).path)).lstrip("/"))

    def is_in(self, folder: "Address") -> bool:
        """Whether it is anywhere below a folder."""
        return self.store == folder.store and self.path.startswith(folder._inside)

    def found(self) -> "Address | None":
        """Itself, with what the store tells of it; None if there is nothing of that name.

        What HTTP gives is a folder if its address ends in a slash; whether it is there, shows on reading.

        Raises:
            OSError: As of `faults.attempt`; a bucket that is missing, too.
        """
        if not self.store.writable:
            return self._at(self.path, is_folder=self.path.endswith("/"))
        try:
            _, is_folder, size = self.store.entry(self.path)
        except FileNotFoundError as error:
            if error.strerror == NO_BUCKET:
                raise
            return None
        return self._at(self.path, size, is_folder)

    def files(self, deep: bool = True) -> Iterator["Address"]:
        """Every file in the folder, as the store tells of them, without keeping them.

        Args:
            deep: And in the folders in it, unless they are hidden.

        Raises:
            OSError: As of `faults.attempt`.
        """
        entries = self.store.entries(self.path, deep)
        return (self._at(entry.path, entry.size) for entry in entries if not entry.is_folder)

    def is_pattern(self) -> bool:
        """Whether it may stand for all that is called so."""
        return _MAGIC.search(self.path if self.head else urlsplit(self.path).path) is not None

    def matches(self) -> Iterator["Address"]:
        """The files of which the name is like this one, a pattern: its `*` cross no slash, `**` do.

        Raises:
            UsageError: A pattern that means nothing.
            OSError: As of `faults.attempt`.
        """
        try:
            like = re.compile(import_module("fsspec.utils").glob_translate(self.path))
        except ValueError as error:
            raise UsageError(f"{self}: {error}") from None
        fixed = _MAGIC.split(self.path)[0].rpartition("/")[0]
        deep = self.path.count("/") > fixed.count("/") + 1 or "**" in self.path
        return (there for there in self._at(fixed).files(deep) if like.match(there.path))

    def _at(self, path: str, size: int | None = None, is_folder: bool = False) -> "Address":
        """Another path in the store."""
        return replace(self, path=path, size=size, is_folder=is_folder)

    def is_file(self) -> bool:
        """Whether there is a file; errors as of `found`."""
        there = self.found()
        return there is not None and not there.is_folder

    def read_bytes(self, goes_on: Callable[[bytes], bool] = lambda start: True, tries: int = 0) -> bytes:
        """All of a file.

        Args:
            goes_on: Is asked, of a large file, with its beginning, whether the rest is wanted.
            tries: How often, as of `faults.attempt`.

        Raises:
            OSError: As of `faults.attempt`.
        """
        if self.size is not None and self.size > _AT_ONCE:
            start = self.store.call(lambda files: files.cat_file(self.path, start=0, end=_START), tries)
            if not goes_on(start):
                return bytes(start)
        return bytes(self.store.call(lambda files: files.cat_file(self.path), tries))

    def modified(self) -> float:
        """When a file was written, in seconds since 1970 by its store; now, if that cannot be told."""
        try:
            return float(self.store.call(lambda files: files.modified(self.path)).timestamp())
        except OSError:
            return time.time()

    def remove(self, tries: int = 0) -> None:
        """Take a file away.

        Raises:
            OSError: As of `faults.attempt`.
        """
        try:
            self.store.call(lambda files: files.rm_file(self.path), tries)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            self.store.call(lambda files: files.rm(self.path), tries)


def parse(name: str) -> Address:
    """The address that a text is: scheme, host or bucket, and path, taken as they are written.

    Raises:
        UsageError: No address of a store, of one that is not known, or what it needs is not installed.
    """
    before, _, after = name.partition("://")
    scheme = before.lower()
    kind, text = file_system_class(scheme, shown(name)), f"{scheme}://{after}"
    try:
        parts = urlsplit(text)
        path, options = kind._strip_protocol(text), kind._get_kwargs_from_urls(text)
        web = scheme in ("http", "https")
        if web and not (parts.hostname and (parts.port or True)):
            raise ValueError("no host")
    except Exception:
        raise UsageError(f"{shown(name)}: not a whole address") from None
    secrets = tuple(filter(None, (parts.password, unquote(parts.password or ""))))
    if web:
        hidden = tuple(filter(None, (*secrets, parts.username, parts.query)))
        return Address(RemoteStore(scheme, (), hidden), "", path)
    is_root = not path.strip("/") and not (path and "host" in options)
    if is_root or (parts.password and f":{parts.password}@" in path):
        raise UsageError(
            f"{shown(name)}: not an address of a file or folder; it begins with a bucket or a host"
        )
    visible = shown(text, queries=True)
    place = visible.rfind(path)
    head = visible[:place] if place > 0 else f"{scheme}:/" if path.startswith("/") else f"{scheme}://"
    return Address(RemoteStore(scheme, tuple(sorted(options.items())), secrets), head, path)


def shown(name: str, queries: bool = False) -> str:
    """An address without its password, and without its query, which may be a key.

    Args:
        name: The address, or any other text.
        queries: Show these: in other stores than those of HTTP they may be a part of a file's name.
    """
    if not is_address(name):
        return name
    text = re.sub(r"^([a-zA-Z][a-zA-Z0-9+.-]+://[^/@:]*):[^/@]*@", r"\1:***@", name)
    if not re.match("https?:", text, re.IGNORECASE):
        return text if queries else text.partition("?")[0]
    text = re.sub(r"^([^/]*//)[^/@]*@", r"\1***@", text)
    before, asks, _ = text.partition("?")
    return f"{before}?***" if asks else before
