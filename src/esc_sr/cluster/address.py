"""Which Ray cluster is meant, and whether it answers."""

import logging
import os
import re
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from esc_sr.errors import DeviceError, UsageError, one_line

PATIENCE = 30.0
"""Seconds after which a cluster that does not answer is given up."""

NEEDS = "--cluster needs one more package: pip install 'esc-sr[cluster]'"


def import_ray() -> Any:
    """Ray, without its statistics of use, and without what it warns of inside itself.

    Raises:
        UsageError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # what ends late would begin a cluster
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # CUDA_VISIBLE_DEVICES stays as it is
    warnings.filterwarnings("ignore", module="ray")
    try:
        import pyarrow
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError(f"{NEEDS} ({error.name} is missing)") from error
    assert pyarrow is not None
    return ray


@contextmanager
def connected(cluster: str) -> Iterator[Any]:
    """Use a Ray cluster; one that this process uses already is taken as it is.

    Args:
        cluster: "ray", the cluster that RAY_ADDRESS names or that runs on this machine, or else one of this
            machine alone, which ends with the work; or "ray://HOST:PORT", as `ray start --head` prints it.

    Yields:
        The module ray.

    Raises:
        UsageError: No such address, or Ray is not installed.
        DeviceError: The cluster does not answer, or is of another version of Ray or Python.
    """
    place = _place(cluster)
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    try:
        _connect(ray, place)
        yield ray
    finally:
        ray.shutdown()


def _place(cluster: str) -> str | None:
    """Host and port, if any are given."""
    if cluster == "ray":
        return None
    match = re.fullmatch(r"ray://(\S+:\d+)", cluster)
    if match is None:
        raise UsageError(f"--cluster {cluster}: say ray, or ray://HOST:PORT as `ray start --head` prints it")
    return match[1]


def _connect(ray: Any, place: str | None) -> None:
    """Connect to the cluster at an address, or to that of this machine, or begin one."""
    place = place or os.environ.get("RAY_ADDRESS") or _noted() or "local"
    if place not in ("auto", "local"):
        _ask(place)
    alone = {"include_dashboard": False} if place == "local" else {}
    try:
        ray.init(place, logging_level=logging.ERROR, log_to_driver=False, **alone)
    except Exception as error:  # a start that takes too long is a plain one
        raise DeviceError(f"the Ray cluster {place} cannot be used: {_first(error)}") from error


def _noted() -> str | None:
    """The cluster that `ray start` has noted on this machine, unless it is gone: Ray would wait for it.

    One that another run has begun for itself is in no note, and ends with that run.
    """
    note = Path(os.environ.get("RAY_TMPDIR") or "/tmp", "ray", "ray_current_cluster")
    try:
        place = note.read_text().strip()
        _dial(place)
    except (OSError, ValueError):
        return None
    return place


def _dial(place: str) -> None:
    """Find out whether anything is at an address; OSError or ValueError if not."""
    host, _, port = place.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()


def _ask(place: str) -> None:
    """Refuse an address at which no cluster answers; Ray itself waits for ever, and cannot be stopped."""
    advice = "no Ray cluster answers; give the address that `ray start --head` prints, mostly of port 6379"
    try:
        _dial(place)
        command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", place]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise DeviceError(f"{place}: {advice}" + (f" ({one_line(said[-1])})" if said else "")) from error
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"{place}: {advice} ({_first(error)})") from error


def _first(error: BaseException) -> str:
    """The first line of what an error says, without the command that timed out."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"waited {error.timeout:.0f} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
