"""Servers for the tests of the page and of its API."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from esc_sr.app.limits import Limits
from esc_sr.app.server import make_app

ROOT = Path(__file__).parents[1]
MINUTE = 60.0


def until(holds: Callable[[], object], seconds: float = MINUTE) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@contextlib.contextmanager
def served(scratch: Path, limits: Limits = Limits(), token: str | None = None) -> Iterator[str]:
    """A server in a thread of this process, as `esc-sr app` has it; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(256)
        port = listener.getsockname()[1]
        hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
        app = make_app(limits, "cpu", hosts, token, scratch, lambda: server.should_exit)
        config = uvicorn.Config(
            app, http="h11", ws="none", lifespan="on", log_level="error", timeout_graceful_shutdown=2
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        until(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(MINUTE)
            assert not thread.is_alive()


def begin(temporary: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """`esc-sr app` as a process whose temporary files lie in a folder; also its link."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "src"),
        "TMPDIR": str(temporary),
        "PYTHONUNBUFFERED": "1",
    }
    command = [
        sys.executable,
        "-m",
        "esc_sr",
        "app",
        "--no-browser",
        "--port",
        "0",
        "--threads",
        "1",
        *options,
    ]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[0]
