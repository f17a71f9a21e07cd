"""A Ray in this process: actors whose calls are done when they are waited for, and who die on demand."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from esc_sr.cluster import listing, upscale

GIB = 2**30


class RayError(Exception):
    """As Ray's: the worker is gone."""


class RayTaskError(RayError):
    """As Ray's: the call has raised something."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Dies(BaseException):
    """What a worker raises to die."""


class Ray:
    """What `Pool` needs of the module ray.

    Attributes:
        asked: The options of each actor, in order.
        together: The largest number of calls that were open at once.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, *cores: int, gib: int = 100) -> None:
        self.alive: list[dict[str, Any]] = [
            {
                "NodeID": f"{number + 1:056x}",
                "Alive": True,
                "NodeManagerAddress": f"10.0.0.{number}",
                "Resources": {"CPU": float(count), "memory": gib * GIB},
            }
            for number, count in enumerate(cores)
        ]
        self.asked: list[dict[str, Any]] = []
        self.together = 0

    def nodes(self) -> list[dict[str, Any]]:
        return self.alive

    def put(self, value: Any) -> Any:
        return value

    def remote(self, kind: type) -> Any:
        def begin(options: dict[str, Any]) -> Any:
            self.asked.append(options)
            return SimpleNamespace(remote=lambda *given: _Actor(kind(*given)))

        return SimpleNamespace(options=lambda **options: begin(options))

    def wait(self, calls: Sequence["_Call"], num_returns: int, timeout: float) -> Any:
        self.together = max(self.together, len(calls))
        if num_returns > 1:
            return [call for call in calls if call.ended], []
        calls[0].end()
        return [calls[0]], list(calls[1:])

    def get(self, call: "_Call") -> Any:
        call.end()
        if call.error is not None:
            raise call.error
        return call.result

    def kill(self, actor: "_Actor") -> None:
        actor.die()


class _Actor:
    def __init__(self, member: Any) -> None:
        self.member, self.dead, self.calls = member, False, list[_Call]()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *given: _Call(self, getattr(self.member, name), given))

    def die(self) -> None:
        self.dead = True
        for call in self.calls:
            call.ended = True


class _Call:
    def __init__(self, actor: _Actor, function: Callable[..., Any], given: tuple[Any, ...]) -> None:
        self.actor, self.function, self.given = actor, function, given
        self.ended = False
        self.result: Any = None
        self.error: RayError | None = None
        actor.calls.append(self)

    def end(self) -> None:
        if not self.ended and not self.actor.dead:
            self.ended = True
            try:
                self.result = self.function(*self.given)
                return
            except Dies:
                self.actor.die()
            except Exception as error:
                self.error = RayTaskError(error)
                return
        if self.actor.dead and self.result is None and self.error is None:
            self.ended, self.error = True, RayError("the actor died")


def pretend(patch: pytest.MonkeyPatch, *cores: int) -> None:
    """Have runs over a cluster use a Ray in this process, and no Ray Data."""

    @contextmanager
    def connected(cluster: str) -> Iterator[Ray]:
        yield Ray(*cores)

    def windows(ray: Ray, entries: Any, look: Any, window: int) -> Iterator[list[Any]]:
        table = listing._table([listing._packed(look(entry)) for entry in entries()])
        yield [listing._unpacked(*row) for row in listing._rows(table)]

    patch.setattr(upscale, "connected", connected)
    patch.setattr(upscale, "windows", windows)
