"""From a command to a server that runs: an address, a token where others may ask, a browser."""

import asyncio
import contextlib
import secrets
import socket
import webbrowser
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from esc_sr.app.limits import Limits
from esc_sr.errors import UsageError

if TYPE_CHECKING:
    import uvicorn

DEFAULT_PORT = 8000
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LEAST_TOKEN = 16


def serve(
    host: str,
    port: int | None,
    token_file: Path | None,
    browser: bool,
    device: str,
    limits: Limits,
    tell: Callable[[str], object],
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        host: Address to listen on; where others reach it, a token is needed, and made if none is given.
        port: Where; 0 is any free one, and None `DEFAULT_PORT` or, if that is taken, any free one.
        token_file: A file with the token in its first line.
        browser: Open the page.
        device: Where to compute.
        limits: How much is taken.
        tell: Is told the link to the page, which has the token in it.

    Raises:
        UsageError: FastAPI is missing, the address is not to be had, or the token is none.
    """
    try:
        import uvicorn

        from esc_sr.app.server import make_app
    except ImportError as error:
        raise UsageError(f'{error.name} is missing: pip install "esc-sr[app]"') from error
    own = host in _LOOPBACK
    token = _token(token_file) if token_file else None if own else secrets.token_urlsafe(24)
    with contextlib.closing(_listening(host, port)) as listener:
        port = listener.getsockname()[1]
        hosts = frozenset(_names(port)) if own else frozenset()
        app = make_app(limits, device, hosts, token, ends=lambda: server.should_exit)
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="on",
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=20,
            timeout_graceful_shutdown=2,
            limit_concurrency=1000,
        )
        server = uvicorn.Server(config)
        shown = f"[{host}]" if ":" in host else host
        link = f"http://{shown}:{port}/" + (f"#token={token}" if token else "")

        def ready() -> None:
            tell(link)
            if browser:
                Thread(target=webbrowser.open, args=(link,), daemon=True).start()

        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_run(server, listener, ready))


async def _run(server: "uvicorn.Server", listener: socket.socket, ready: Callable[[], object]) -> None:
    """Serve, and say when that has begun."""
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.02)
    if server.started:
        ready()
    await serving


def _listening(host: str, port: int | None) -> socket.socket:
    """A socket on an address.

    Raises:
        UsageError: It is not to be had.
    """
    for wanted in (DEFAULT_PORT, 0) if port is None else (port,):
        try:
            family, _, _, _, address = socket.getaddrinfo(host, wanted, type=socket.SOCK_STREAM)[0]
            listener = socket.socket(family, socket.SOCK_STREAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
                listener.listen(128)
            except OSError:
                listener.close()
                raise
            return listener
        except (OSError, UnicodeError) as error:  # the latter of names that cannot be
            problem = getattr(error, "strerror", None) or "no such name"
    wanted = DEFAULT_PORT if port is None else port
    raise UsageError(f"cannot listen on {host}, port {wanted}: {problem}; choose another")


def _names(port: int) -> list[str]:
    """What this machine's own programs call it."""
    names = [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]
    return names if port != 80 else [*names, "127.0.0.1", "localhost", "[::1]"]


def _token(path: Path) -> str:
    """The token in a file.

    Raises:
        UsageError: It cannot be read, or is too short.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'no text'})"
        ) from error
    token = lines[0].strip() if lines else ""
    if len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"{path}: its first line is no token, which has {_LEAST_TOKEN} letters or digits or more"
        )
    return token
