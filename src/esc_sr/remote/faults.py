"""What goes wrong on the way to a store, as the `OSError` a disk would give; what may pass is tried again."""

import errno
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

LIMIT = 15.0
"""Seconds without an answer after which a connection, or a read, is given up."""

TRIES = 5
"""How often something is tried, in all, where the fault may pass."""

LONGEST = 60.0
"""Seconds after which nothing more is tried again."""

PAUSE = 0.25
"""Seconds before the second try; twice as many before each further one, and up to as many more by chance."""

NO_BUCKET = "no such bucket"
"""The `strerror` where not only a file is missing."""

Result = TypeVar("Result")

_over: ContextVar[threading.Event | None] = ContextVar("over", default=None)

_PASSING = {408, 409, 425, 429, 500, 502, 503, 504}  # of HTTP
_CUT = {"ClientPayloadError", "IncompleteRead", "IncompleteReadError", "PayloadEncodingError"}
"""Classes of errors, by name since their packages may be missing, of answers that end early."""

_DENIED = {
    "AuthenticationException": "the server takes neither key nor password",
    "BadHostKeyException": "the server's key is not the known one",
    "CredentialRetrievalError": "no credentials",
    "DefaultCredentialsError": "no credentials",
    "NoCredentialsError": "no credentials",
    "PartialCredentialsError": "incomplete credentials",
    "ProfileNotFound": "no such profile of credentials",
    "RefreshError": "the credentials cannot be renewed",
    "TokenRetrievalError": "no credentials",
    "UnauthorizedSSOTokenError": "no credentials",
}
"""Likewise, of what says who one is not."""

_FINAL = (LookupError, ValueError)
_LONGEST_TEXT = 200


class PassingError(OSError):
    """What may be gone the next time: a server that is busy, a connection that was cut."""


def attempt(
    act: Callable[[], Result], hidden: tuple[str, ...] = (), tries: int = 0, again: Callable[[], object] = int
) -> Result:
    """Do something, again and again where what goes wrong may pass; all else is raised at once.

    Args:
        act: What is done.
        hidden: Texts that are in no message, such as a password.
        tries: How often, in all; by default `TRIES`.
        again: Is called before each further try.

    Raises:
        FileNotFoundError: There is nothing of that name.
        FileExistsError: There is something of that name.
        PermissionError: Who one is, or is not, must not do so.
        PassingError: It went wrong as often as it was tried.
        OSError: Anything else. `strerror` is one line, without secrets.
    """
    begun = time.monotonic()
    for last in range(1, (tries or TRIES) + 1):
        try:
            return act()
        except Exception as error:
            fault = as_os_error(error, hidden)
        over = time.monotonic() - begun > LONGEST
        if not isinstance(fault, PassingError) or last == (tries or TRIES) or over:
            raise fault
        if _waited(PAUSE * 2 ** (last - 1) * random.uniform(1, 2)):  # not all of a fleet at once
            raise fault
        again()
    raise AssertionError("tried at least once")


@contextmanager
def until(over: threading.Event) -> Iterator[None]:
    """Try nothing again in this block once something is over."""
    before = _over.set(over)
    try:
        yield
    finally:
        _over.reset(before)


def _waited(seconds: float) -> bool:
    """Wait; true, and at once, if it is over."""
    over = _over.get()
    if over is not None:
        return over.wait(seconds)
    time.sleep(seconds)
    return False


def as_os_error(error: Exception, hidden: tuple[str, ...] = ()) -> OSError:
    """The error of a library as that of a disk, with a `strerror` of one line and no secrets."""
    text = _plain(error, hidden)
    kinds = _kinds(error)
    name = next((name for name in kinds if name in _DENIED), None)
    status = next(filter(None, map(_status, _chain(error))), 0)
    if isinstance(error, FileExistsError):
        return FileExistsError(errno.EEXIST, "exists already")
    if name:
        return PermissionError(errno.EACCES, _DENIED[name])
    if status in _PASSING or any("Timeout" in kind for kind in kinds):
        answer = f"the server answers {status}" if status in _PASSING else "no answer in time"
        return PassingError(errno.EIO, f"{answer} ({text})")
    if _CUT.intersection(kinds):
        return PassingError(errno.EIO, f"the answer was cut off ({text})")
    if status in (401, 403) or isinstance(error, PermissionError):
        return PermissionError(errno.EACCES, f"no permission ({text})")
    if status in (404, 410) or isinstance(error, FileNotFoundError):
        bucket = any(_code(part) == "NoSuchBucket" for part in _chain(error))
        return FileNotFoundError(errno.ENOENT, NO_BUCKET if bucket else "no such file or folder")
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return OSError(error.errno or errno.EINVAL, text)
    if status == 501 or isinstance(error, NotImplementedError | TypeError):
        return OSError(errno.ENOSYS, f"the store does not know how ({text})")
    if status or isinstance(error, _FINAL):
        return OSError(errno.EINVAL, text)
    return PassingError(errno.EIO, text)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those it was made of."""
    while error is not None:
        yield error
        error = error.__cause__


def _kinds(error: Exception) -> list[str]:
    """The names of an error's classes, and of those that it was made of."""
    return [kind.__name__ for part in _chain(error) for kind in type(part).__mro__]


def _status(error: BaseException) -> int:
    """The status of HTTP that an error tells: aiohttp's, botocore's, Google's, Azure's; 0 if none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    told = (getattr(error, name, None) for name in ("status", "status_code", "code"))
    return next((number for number in told if isinstance(number, int) and 400 <= number < 600), 0)


def _code(error: BaseException) -> str:
    """S3's own code of an error, such as "NoSuchBucket"."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _plain(error: Exception, hidden: tuple[str, ...]) -> str:
    """What an error says, in one short line, or its kind; without secrets, and queries of any address."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    for secret in hidden:
        said = said.replace(secret, "***") if len(secret) > 2 else said  # shorter ones are in any text
    said = re.sub(r"(://)[^/@\s'\"]*@", r"\1***@", said)
    said = re.sub(r"(://[^?\s'\"]*)\?[^\s'\"]*", r"\1?***", said)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:_LONGEST_TEXT]
