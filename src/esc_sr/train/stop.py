"""Ctrl-C and SIGTERM as a wish to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(KeyboardInterrupt):
    """Work that can be thrown away was broken off by the first Ctrl-C or SIGTERM."""


class Stop:
    """Whether a run is to end.

    Attributes:
        wished: whether a signal has come.
    """

    def __init__(self) -> None:
        """No signal has come, and one that comes is remembered only."""
        self.wished = False
        self._at_once = False

    def wish(self) -> None:
        """Remember a signal; raise Stopped inside `at_once`."""
        self.wished = True
        if self._at_once:
            raise Stopped

    @contextmanager
    def at_once(self, really: bool = True) -> Iterator[None]:
        """Let a signal end the block wherever it is: for work that is done again, or not needed.

        Args:
            really: False leaves the block to come to its end.

        Raises:
            Stopped: a signal came inside, or had come before.
        """
        if not really:
            yield
            return
        self._at_once = True
        try:
            if self.wished:
                raise Stopped
            yield
        finally:
            self._at_once = False


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """What the first Ctrl-C or SIGTERM wishes; after that the signals act as before."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, frame: object) -> None:
        put_back()
        if stop.wished:  # reading with libvips has put this back after the first
            signal.raise_signal(number)
        stop.wish()

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        put_back()
