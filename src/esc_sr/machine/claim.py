"""Files that are there whole or not at all, and the right to write one, which ends with its process."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_KEEPS_OPEN_FILES = os.name == "nt"
"""Whether a file that is open can neither be renamed nor removed."""


@contextlib.contextmanager
def whole_file(path: Path, before: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file to write, which takes the place of one of that name when it is whole and on the disk.

    Of several processes that write it at once, the last one's stays.

    Args:
        path: The file; its folder must exist.
        before: Name under which the file that was there is kept.

    Raises:
        OSError: The disk refuses; what was there is as it was.
    """
    with contextlib.closing(Claim(path, sole=False)) as claim:
        yield claim.part
        claim.part.flush()
        os.fsync(claim.part.fileno())
        if before is not None and path.exists():
            os.replace(path, before)
        claim.publish(overwrite=True)


class Claim:
    """A hidden file beside the one to write, in which that comes to be, locked until it is closed.

    What a process leaves behind that was killed is cleared away by the next that writes the same file. Where
    the system has no such locks, several may write it, each in a hidden file of its own.

    Attributes:
        path: The file to write.
        part: The hidden file, open for writing.
    """

    def __init__(self, path: str | Path, sole: bool = True) -> None:
        """Claim a file.

        Args:
            path: The file, which may exist; its folder must.
            sole: Nobody else may have claimed it. Otherwise several write it, as where there are no locks.

        Raises:
            BlockingIOError: Somebody else has claimed it.
            OSError: The folder is missing, or the disk refuses.
        """
        self.path = Path(path)
        self._place: Path | None = _place_of(self.path)
        part = None
        try:
            part = _locked(self._place)
        except BlockingIOError as error:
            if sole:
                reason = "another run is writing it; wait for its end"
                raise BlockingIOError(errno.EWOULDBLOCK, reason) from error
        if part is None:
            self._place = self.path.with_name(f".esc-sr-{secrets.token_hex(8)}.part")
            part = open(self._place, "x+b")
        self.part = part

    def publish(self, overwrite: bool) -> None:
        """Give what was written its name, all at once.

        Raises:
            FileExistsError: A file has that name, and is not to be replaced.
            OSError: The disk refuses.
        """
        assert self._place is not None, "once only"
        if _KEEPS_OPEN_FILES:
            self.part.close()
        if overwrite or not _linked(self._place, self.path):
            os.replace(self._place, self.path)
        else:
            os.unlink(self._place)
        self._place = None

    def close(self) -> None:
        """Give up the claim, and what is not published; it may be given up already."""
        if _KEEPS_OPEN_FILES:
            self.part.close()
        if self._place is not None:
            with contextlib.suppress(OSError):
                self._place.unlink()
            self._place = None
        self.part.close()


def clear_remains(path: Path) -> None:
    """Remove what a process that was killed has left beside a file, unless somebody is writing it."""
    if os.path.lexists(_place_of(path)):
        with contextlib.suppress(OSError), contextlib.closing(Claim(path)):
            pass


def _place_of(path: Path) -> Path:
    """The hidden file of a claim."""
    return path.with_name(f".esc-sr-{sha256(os.fsencode(path.name)).hexdigest()[:16]}.part")


def _locked(place: Path) -> BinaryIO | None:
    """Make an empty file that is locked; None where there are no locks.

    Raises:
        BlockingIOError: It is there, and somebody has locked it.
        OSError: It cannot be made.
    """
    from filelock import lock_descriptor

    while True:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(place.lstat().st_mode):
                place.unlink()  # a link or a pipe, which nobody has locked
        with contextlib.ExitStack() as unless_returned:
            descriptor = os.open(place, _FLAGS, 0o666)
            file = unless_returned.enter_context(os.fdopen(descriptor, "r+b"))
            try:
                free = lock_descriptor(descriptor, blocking=False)
            except OSError:
                file.close()
                place.unlink(missing_ok=True)
                return None
            if not free:
                raise BlockingIOError(errno.EWOULDBLOCK, "locked")
            if not _is_at(file, place):  # its owner was done with it, meanwhile
                continue
            if os.fstat(descriptor).st_size == 0:
                unless_returned.pop_all()
                return file
            if _KEEPS_OPEN_FILES:
                file.close()
            place.unlink()  # its owner was killed; to be made anew, since it may be published already


def _is_at(file: BinaryIO, place: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(place))
    except FileNotFoundError:
        return False


def _linked(place: Path, path: Path) -> bool:
    """Give a file a second name, which nobody can take in between; false where a disk has no such names.

    Raises:
        FileExistsError: Something has that name.
    """
    try:
        os.link(place, path)
    except FileExistsError:
        raise
    except OSError as error:
        if os.path.lexists(path):
            raise FileExistsError(path) from error
        return False
    return True
