"""What a worker does, and what it is given: seen alike by those that ask and those that do."""

from functools import cache
from hashlib import file_digest
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from esc_sr import __version__
from esc_sr.errors import EscError, UsageError


class Wants(NamedTuple):
    """A picture takes the memory of so many workers, by its plan."""

    shares: int


class WorkerMeans(NamedTuple):
    """What a worker has.

    Attributes:
        threads: Cores.
        device: Where it computes, "cpu" or "cuda"; "auto" is whatever it finds.
        memory: Bytes of main memory that a picture may take; those of idle neighbours come on top.
    """

    threads: int
    device: str
    memory: int


class Given(NamedTuple):
    """How a piece of work is to be done.

    Attributes:
        shares: How many workers' memory it has.
        most: How many there can be; with these it is to be done, whatever the plan says.
        again: A worker has died of it, or with it, and may have done it before.
    """

    shares: int
    most: int
    again: bool


class ClusterWork(Protocol):
    """What all workers of a run do; is sent to each, and made ready there once."""

    def prepare(self, means: WorkerMeans) -> Any:
        """Load what is kept; what it gives, such as a digest of the weights, must be the same everywhere.

        Raises:
            EscError: It cannot be had.
        """

    def do(self, item: Any, given: Given) -> Any:
        """Do one piece; several threads call it at once.

        Raises:
            EscError: It cannot be done.
        """


class Member:
    """A worker: one process on a node, with its work ready."""

    def __init__(self, work: ClusterWork, means: WorkerMeans, versions: dict[str, str], node: str) -> None:
        self._work, self._means, self._versions, self._node = work, means, versions, node

    def prepare(self) -> Any:
        """Make ready.

        Raises:
            UsageError: Something is of another version here than where the run was begun.
            EscError: As of `ClusterWork.prepare`.
        """
        here = known_versions()
        if wrong := [f"{name} {here[name]}" for name in here if here[name] != self._versions.get(name)]:
            wanted = ", ".join(f"{name} {number}" for name, number in self._versions.items())
            raise UsageError(f"node {self._node} has {', '.join(wrong)}; the run was begun with {wanted}")
        try:
            return self._work.prepare(self._means)
        except EscError as error:
            raise type(error)(f"node {self._node}: {error}") from error

    def do(self, item: Any, given: Given) -> Any:
        """Do one piece; what goes wrong is raised."""
        return self._work.do(item, given)


def known_versions() -> dict[str, str]:
    """What has to be the same everywhere for equal pictures; a build of torch for a GPU or none is not."""
    try:
        torch = version("torch").partition("+")[0]
    except PackageNotFoundError:
        torch = "none"
    return {"esc-sr": __version__, "torch": torch}


@cache
def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def known_everywhere(model: str) -> str:
    """A bundled name as it is, and a file by a path that holds in other folders, too."""
    return str(Path(model).absolute()) if Path(model).is_file() else model
