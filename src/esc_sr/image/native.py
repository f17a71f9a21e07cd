"""Calls into libvips, what it says of a failure, and Ctrl-C where it has to wait."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyvips


def _readable(text: Any) -> str:
    """What libvips logs, as text: it quotes damaged files, whose bytes may be none."""
    return bytes(pyvips.ffi.string(text)).decode(errors="backslashreplace")


pyvips._to_string = _readable  # pyvips's own raises inside of its log callback, and a traceback is shown


@contextmanager
def interrupt_later() -> Iterator[None]:
    """Let Ctrl-C take effect when the block is done."""
    heard: list[object] = []
    main = threading.current_thread() is threading.main_thread()  # only there are signals handled
    before = signal.signal(signal.SIGINT, lambda *about: heard.append(about)) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        if heard:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def libvips() -> Iterator[None]:
    """Make calls into libvips safe.

    Ctrl-C takes effect afterwards: inside, it could be lost, since libvips calls back into Python to log, and
    nothing can be raised through C.

    Raises:
        pyvips.Error: Of any failure, also of one that pyvips cannot report because the text is not UTF-8.
        MemoryError: libvips had too little of it.
    """
    with interrupt_later():
        try:
            yield
        except UnicodeDecodeError as error:
            pyvips.vips_lib.vips_error_clear()  # pyvips leaves the text, which would spoil the next report
            raise pyvips.Error("damaged", "") from error
        except pyvips.Error as error:
            if "out of memory" in str(error):
                raise MemoryError(str(error)) from error
            raise


def reason(error: Exception) -> str:
    """The one line of an error that tells the cause."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    lines = [line.strip() for line in str(error).splitlines()]
    system = [line.removeprefix("system error: ") for line in lines if line.startswith("system error: ")]
    return system[0] if system else [line for line in lines if line and line[0] != "("][-1]
