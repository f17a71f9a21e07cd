"""Stores of files by fsspec: which there are, what they need, how long they are waited for."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib import import_module
from threading import RLock
from typing import Any, NamedTuple, TypeVar

from esc_sr.errors import UsageError
from esc_sr.remote.faults import LIMIT, attempt

Result = TypeVar("Result")

_OBJECTS = ("s3", "gs", "abfs", "memory")
"""Stores in which a file is there when all of it is; in others it grows, and gets its name at the end."""

_PACKAGES = {
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "gcs": "gcsfs",
    "gs": "gcsfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "s3a": "s3fs",
    "sftp": "paramiko",
    "ssh": "paramiko",
}


class Listed(NamedTuple):
    """What a store tells of a name.

    Attributes:
        path: As fsspec has it.
        is_folder: Whether it is one.
        size: Of a file, in bytes, if it is told.
    """

    path: str
    is_folder: bool
    size: int | None


@dataclass(frozen=True)
class RemoteStore:
    """A store, by what an address says of it; what is not said there, fsspec's configuration may say.

    Attributes:
        scheme: How the address begins.
        options: What else it says before the path: host, port, user, password.
        hidden: Texts that are in no message.
    """

    scheme: str
    options: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    hidden: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @property
    def writable(self) -> bool:
        """Whether anything can be written into it at all."""
        return self.scheme not in ("http", "https")

    @property
    def whole(self) -> bool:
        """Whether a file in it is there as a whole, or not at all."""
        return any(name in _OBJECTS for name in _protocols(file_system_class(self.scheme)))

    def call(self, act: Callable[[Any], Result], tries: int = 0) -> Result:
        """Do something with the file system, as `faults.attempt` does; a lost connection is made again."""
        return attempt(lambda: _connected(self.scheme, self.options).do(act), self.hidden, tries, self._again)

    def _again(self) -> None:
        """Forget a connection that does not mend itself."""
        if not file_system_class(self.scheme).async_impl:
            disconnect()

    def entry(self, path: str) -> Listed:
        """What there is of a name.

        Raises:
            OSError: As of `faults.attempt`.
        """
        return _entry(self.call(lambda files: files.info(path)))

    def entries(self, path: str, deep: bool) -> Iterator[Listed]:
        """What is in a folder, and in those in it; S3 tells a thousand at a time, others a folder.

        Args:
            path: The folder.
            deep: Those in it as well, without telling of these themselves.

        Raises:
            OSError: As of `faults.attempt`.
        """
        if "s3" in _protocols(file_system_class(self.scheme)):
            yield from self._pages(path, deep)
            return
        folders, seen = [path], set()
        while folders:
            here = folders.pop()
            if here in seen:
                continue
            seen.add(here)
            inside = sorted(map(_entry, self.call(partial(_list, path=here))), key=lambda entry: entry.path)
            yield from (entry for entry in inside if not (deep and entry.is_folder))
            if deep:
                below = (entry.path for entry in reversed(inside) if entry.is_folder)
                folders += [path for path in below if not path.strip("/").rsplit("/", 1)[-1].startswith(".")]

    def _pages(self, path: str, deep: bool) -> Iterator[Listed]:
        """`entries` of S3, page by page."""
        bucket, _, key = path.partition("/")
        asked = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""} | ({} if deep else {"Delimiter": "/"})
        while True:
            page = self.call(lambda files: files.call_s3("list_objects_v2", **asked))
            for found in page.get("Contents", ()):
                if not found["Key"].endswith("/"):  # what some programs make in place of a folder
                    yield Listed(f"{bucket}/{found['Key']}", False, found["Size"])
            for found in page.get("CommonPrefixes", ()):
                yield Listed(f"{bucket}/{found['Prefix'].rstrip('/')}", True, None)
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]


def file_system_class(scheme: str, name: str = "") -> Any:
    """The class of fsspec for addresses that begin so.

    Args:
        scheme: How they begin.
        name: What to call the address in errors.

    Raises:
        UsageError: There is none, or what it needs is not installed.
    """
    try:
        fsspec = import_module("fsspec")
    except ImportError:
        needs = "the extra remote: pip install 'esc-sr[remote]'"
        raise UsageError(f"{name}: an address, which needs {needs}") from None
    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        needs = f"pip install {package}" if package else " ".join(str(error).split())
        raise UsageError(f"{name}: addresses of this kind need one more package: {needs}") from None
    except ValueError:
        known = "s3, gs, az, sftp and https do"
        raise UsageError(f"{name}: no kind of address begins with {scheme}://; {known}") from None


def _protocols(kind: Any) -> tuple[str, ...]:
    """How addresses of a class begin."""
    return (kind.protocol,) if isinstance(kind.protocol, str) else tuple(kind.protocol)


class _Connection(NamedTuple):
    """A file system of fsspec, and what is held while it does something."""

    files: Any
    turn: AbstractContextManager[Any]

    def do(self, act: Callable[[Any], Result]) -> Result:
        """Do something, in turn: by SFTP, threads that wait at once take each other's answers."""
        with self.turn:
            return act(self.files)


@lru_cache(maxsize=64)
def _connected(scheme: str, options: tuple[tuple[str, Any], ...]) -> _Connection:
    """A file system that waits no longer than `LIMIT`, keeps no listings and tries once."""
    kind = file_system_class(scheme)
    protocols = _protocols(kind)
    chosen = dict(options)
    if "sftp" in protocols:
        chosen |= {"timeout": LIMIT, "banner_timeout": LIMIT, "auth_timeout": LIMIT}
    files = kind(**chosen, skip_instance_cache=True)
    files.dircache.use_listings_cache = False
    if "s3" in protocols:
        files.retries = 1
        files.max_concurrency = (
            1  # otherwise it asks for a size before it reads, and reads large files in parts
        )
        waits = {"connect_timeout": LIMIT, "read_timeout": LIMIT, "retries": {"max_attempts": 0}}
        files.config_kwargs = waits | files.config_kwargs
    elif "http" in protocols:
        timeout = import_module("aiohttp").ClientTimeout(total=None, sock_connect=LIMIT, sock_read=LIMIT)
        files.client_kwargs = {"timeout": timeout} | files.client_kwargs
    elif "sftp" in protocols:
        files.ftp.get_channel().settimeout(LIMIT)
    return _Connection(files, RLock() if "sftp" in protocols else nullcontext())


def disconnect() -> None:
    """Let go of all connections; what is asked next makes new ones."""
    _connected.cache_clear()


def _list(files: Any, path: str) -> list[dict[str, Any]]:
    """What is in a folder."""
    return list(files.ls(path, detail=True))


def _entry(told: dict[str, Any]) -> Listed:
    """What fsspec tells of a name."""
    return Listed(told["name"], told["type"] == "directory", told.get("size"))
