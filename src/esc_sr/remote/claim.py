"""The right to write a file in a store: kept up by who has it, and free again when that has died."""

import errno
import json
import secrets
import threading
import time
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Any

from esc_sr.remote.address import Address

LEASE = 300.0
"""Seconds after which a claim counts no more, by the clocks of this machine and of that which made it."""

RENEWAL = 60.0
"""Seconds after which the one who has it renews it."""


_NOBODY = "nobody", 0.0


class RemoteClaim:
    """A hidden small file beside the one to write, which says whose it is and since when.

    It is created only where it is not there, which S3, Google and Azure guarantee; where a store does not,
    two may have the claim at once, and the file that was written last stays, whole. Of one that is too old,
    its owner was killed: it is taken over by whoever can create the file that is named after it.

    Attributes:
        target: The file to write.
    """

    def __init__(self, target: Address) -> None:
        """Claim a file.

        Args:
            target: The file, which may exist.

        Raises:
            BlockingIOError: Somebody else has claimed it.
            OSError: As of `faults.attempt`.
        """
        self.target = target
        digest = sha256(target.name.encode(errors="surrogatepass")).hexdigest()[:16]
        self._place = target.with_name(f".esc-sr-{digest}.claim")
        self._token = secrets.token_hex(8)
        self._lock, self._closed = threading.Lock(), threading.Event()
        if not self._created(self._place) and not self._taken_over():
            raise BlockingIOError(errno.EWOULDBLOCK, "another run is writing it; wait for its end")
        threading.Thread(target=self._renew, daemon=True, name="esc-sr claim").start()

    def publish(self, data: bytes, overwrite: bool) -> None:
        """Write the file, which is then there as a whole, or not at all.

        Args:
            data: What is in it.
            overwrite: Replace what has that name.

        Raises:
            FileExistsError: Something has that name, and is not to be replaced.
            OSError: As of `faults.attempt`.
        """
        try:
            self._publish(data, overwrite)
        except (FileExistsError, FileNotFoundError):
            if self.target.read_bytes() != data:  # unless it is our own, and the answer was lost
                raise

    def _publish(self, data: bytes, overwrite: bool) -> None:
        """`publish`, unless answers are lost."""
        target, part = self.target, self._part(self._token)
        if target.store.whole:
            _write(target, data, new=not overwrite)
            return
        if not overwrite and target.found() is not None:
            raise FileExistsError(errno.EEXIST, "exists already")
        try:
            _write(part, data)
            target.store.call(lambda files: files.mv(part.path, target.path))
        except BaseException:
            with suppress(OSError):
                part.remove(tries=2)
            raise

    def close(self) -> None:
        """Give up the claim; it may be given up already."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            with suppress(OSError):
                if self._owner(self._place, tries=2)[0] == self._token:
                    self._place.remove(tries=2)

    def _created(self, place: Address) -> bool:
        """Create the file of a claim, unless it is there."""
        try:
            _write(place, self._content(), new=True)
        except FileExistsError:
            return self._owner(place)[0] == self._token  # made, and no answer has come
        return True

    def _taken_over(self) -> bool:
        """Take the claim if it is gone by now, or of one that was killed; false if it is neither."""
        before = self._owner(self._place)
        if before == _NOBODY:
            return self._created(self._place)
        if not _is_old(before[1]):
            return False
        successor = self._place.with_name(f"{self._place.name}.{before[0]}")
        if not self._created(successor):
            if _is_old(self._owner(successor)[1]):
                successor.remove()
            return False
        try:
            if self._owner(self._place) != before:
                return False
            _write(self._place, self._content())
        finally:
            with suppress(OSError):
                successor.remove()
        if not self.target.store.whole:
            with suppress(OSError):
                self._part(before[0]).remove()
        return True

    def _part(self, token: str) -> Address:
        """Where an owner's file grows, in stores in which it does."""
        return self._place.with_name(f"{self._place.name}.{token}.part")

    def _content(self) -> bytes:
        """Whose the claim is, and since when."""
        return json.dumps({"owner": self._token, "time": time.time()}).encode()

    def _owner(self, place: Address, tries: int = 0) -> tuple[str, float]:
        """Whose a claim is, and since when."""
        try:
            told = json.loads(place.read_bytes(tries=tries))
            return str(told["owner"]), float(told["time"])
        except FileNotFoundError:
            return _NOBODY
        except (ValueError, LookupError, TypeError):  # it is being written, or its owner was killed meanwhile
            return "unknown", place.modified()

    def _renew(self) -> None:
        """Say every now and then that the owner is alive."""
        while not self._closed.wait(RENEWAL):
            with self._lock, suppress(OSError):
                if self._closed.is_set() or self._owner(self._place)[0] != self._token:
                    return
                _write(self._place, self._content())


def _write(place: Address, data: bytes, new: bool = False) -> None:
    """Write a file at once, in a folder that is made if the store has such.

    Where a store knows no files that have to be new, it is asked before.

    Raises:
        FileExistsError: There is one, and it has to be new.
        OSError: As of `faults.attempt`.
    """
    try:
        place.store.call(partial(_put, place=place, data=data, new=new))
    except OSError as error:
        if not new or error.errno != errno.ENOSYS:
            raise
        if place.found() is not None:
            raise FileExistsError(errno.EEXIST, "exists already") from None
        place.store.call(partial(_put, place=place, data=data, new=False))


def _put(files: Any, place: Address, data: bytes, new: bool) -> None:
    """Write a file by fsspec."""
    if not place.store.whole:
        files.makedirs(place.parent.path, exist_ok=True)
    if place.store.scheme in ("sftp", "ssh"):  # of which fsspec asks before
        with files.open(place.path, "wxb" if new else "wb") as file:
            file.write(data)
    elif new:
        files.pipe_file(place.path, data, mode="create")
    else:
        files.pipe_file(place.path, data)


def _is_old(since: float) -> bool:
    """Whether a claim counts no more."""
    return time.time() - since > LEASE
