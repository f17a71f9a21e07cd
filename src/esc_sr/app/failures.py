"""What the server answers to requests that it does not meet."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from esc_sr.app.job import CancelledError
from esc_sr.app.limits import RefusalError, status_of
from esc_sr.errors import EscError, one_line

if TYPE_CHECKING:
    from fastapi import FastAPI, Response

FAILURES = {
    400: "What is wished cannot be",
    401: "No token, or a wrong one, where the server has one",
    403: "Sent by the page of another site",
    404: "No such job",
    408: "The picture came too slowly",
    409: "The result is not there yet, or the job has failed",
    410: "Cancelled",
    413: "The picture is too large",
    415: "No picture that can be read",
    416: "No such part of the file",
    421: "The server goes by another name",
    422: "A parameter has another type",
    429: "Too many wait already",
    500: "A fault of the server",
    503: "The device does not suffice, or it took too long",
    507: "No room on the disk",
}
"""Why a request is not met, by status of HTTP."""


@dataclass(frozen=True)
class Failure:
    """Why a request was not met, in one line."""

    error: str


def failing(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Answers that are failures."""
    return {status: {"model": Failure, "description": FAILURES[status]} for status in statuses}


def say_failures(app: "FastAPI") -> None:
    """Have the server answer whatever goes wrong."""
    _say_errors(app)
    _say_surprises(app)


def _say(status: int, reason: object, close: bool = False) -> "Response":
    """The answer to what goes wrong, in one line."""
    from fastapi.responses import JSONResponse

    return JSONResponse(asdict(Failure(str(reason))), status, {"connection": "close"} if close else None)


def _say_errors(app: "FastAPI") -> None:
    """Answer all that goes wrong with what is asked."""
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import Response
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    @app.exception_handler(RefusalError)
    async def refused(request: Any, error: RefusalError) -> Response:
        return _say(error.status, error, error.close)

    @app.exception_handler(EscError)
    async def wrong(request: Any, error: EscError) -> Response:
        return _say(status_of(error), str(error).replace("--", ""))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Any, error: RequestValidationError) -> Response:
        return _say(422, "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors()))

    @app.exception_handler(HTTPException)
    async def missing(request: Any, error: HTTPException) -> Response:
        return _say(error.status_code, f"{error.detail}; {request.url.path} is not there for that")

    @app.exception_handler(CancelledError)
    async def cancelled(request: Any, error: CancelledError) -> Response:
        return _say(410, "cancelled")

    @app.exception_handler(ClientDisconnect)
    async def left(request: Any, error: ClientDisconnect) -> Response:
        return _say(400, "the client has left")


def _say_surprises(app: "FastAPI") -> None:
    """Answer what goes wrong by itself."""
    from fastapi.responses import Response

    @app.exception_handler(OSError)
    async def refuses(request: Any, error: OSError) -> Response:
        if isinstance(error, FileNotFoundError):
            return _say(404, "removed meanwhile")
        return _say(507, f"the disk refuses ({error.strerror})")

    @app.exception_handler(Exception)  # which is raised again, and so logged
    async def unknown(request: Any, error: Exception) -> Response:
        return _say(500, one_line(f"{type(error).__name__}: {error}"))
