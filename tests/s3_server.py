"""An S3 server on this machine (moto's), in which requests fail that tests choose."""

import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

Start = Callable[..., Any]
Body = Iterable[bytes]
ERROR = "<Error><Code>{}</Code><Message>injected {}</Message></Error>"
CODES = {403: "AccessDenied", 500: "InternalError", 501: "NotImplemented", 503: "SlowDown"}


@dataclass
class Fault:
    """Requests that go wrong.

    Attributes:
        method: Of HTTP; "CREATE" is a PUT of what must not be there.
        part: Text in the path or query of the request, written as in a key.
        how: A status, "reset" for a connection that is cut, "short" for half a body, "hang" for no answer.
        times: How often it happens; -1 is always.
    """

    method: str
    part: str
    how: int | str
    times: int = -1


@dataclass
class Server:
    """The server.

    Attributes:
        endpoint: Its address.
        faults: What goes wrong.
        requests: What was asked for: methods, and paths with their query.
        released: Lets requests end that hang.
    """

    endpoint: str = ""
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def asked(self, method: str, part: str) -> int:
        """How often something was asked for."""
        return sum(by == method and part in path for by, path in self.requests)

    def __call__(self, environ: dict[str, Any], start: Start) -> Body:
        method = environ["REQUEST_METHOD"]
        path = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}".encode("latin-1").decode()
        created = "CREATE" if "HTTP_IF_NONE_MATCH" in environ else method
        self.requests.append((method, path))
        for fault in self.faults:
            if fault.times and fault.method in (method, created) and fault.part in path:
                fault.times -= 1
                return self._fail(fault.how, environ, start)
        return APP(environ, start)

    def _fail(self, how: int | str, environ: dict[str, Any], start: Start) -> Body:
        if isinstance(how, int):
            body = ERROR.format(CODES[how], how).encode()
            start(
                f"{how} Injected", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
            )
            return [body]
        if how == "short":
            body = b"".join(APP(environ, start))
            return [body[: len(body) // 2]]
        if how == "hang":
            self.released.wait(30)
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError


APP = DomainDispatcherApplication(create_backend_app)


@contextmanager
def s3_server() -> Iterator[Server]:
    """Run the server in a thread."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = Server()
    http = make_server("127.0.0.1", 0, server, threaded=True)
    server.endpoint = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        http.shutdown()
        http.server_close()
        thread.join()


def quoted(key: str) -> str:
    """A key as it is in a request's path."""
    return quote(key)
