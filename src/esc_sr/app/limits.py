"""How much the server takes, and the one line in which it refuses more."""

from dataclasses import dataclass

from esc_sr.errors import DeviceError, EscError, one_line, require
from esc_sr.upscaling.work import MAX_WORK


@dataclass(frozen=True)
class Limits:
    """What one server takes.

    Attributes:
        file_bytes: Of a picture file.
        pixels: Of a picture, all frames together, as `work_of` counts them.
        result_pixels: Of a result, likewise.
        job_seconds: That a picture may be computed.
        jobs: That wait, are being sent, or run.
        previews: That wait or run.
        disk_bytes: Of all pictures, results, these before compression, and what browsers are shown of them.
        keep_seconds: That a result is kept.
        upload_seconds: In which a picture has to be here.
        idle_seconds: In which more of it has to come.

    Raises:
        UsageError: One is less than 1.
    """

    file_bytes: int = 2**28
    pixels: int = MAX_WORK
    result_pixels: int = 2**28
    job_seconds: float = 12 * 3600
    jobs: int = 100
    previews: int = 16
    disk_bytes: int = 2**33
    keep_seconds: float = 3600
    upload_seconds: float = 600
    idle_seconds: float = 20

    def __post_init__(self) -> None:
        require(self, {name: (value >= 1, "at least 1") for name, value in vars(self).items()})


class RefusalError(Exception):
    """A request that is not met.

    Attributes:
        status: Of HTTP.
        close: Whether nothing more is taken from this connection; otherwise what comes is thrown away, so
            that the client gets to reading the answer.
    """

    def __init__(self, status: int, reason: object, close: bool = False) -> None:
        super().__init__(one_line(str(reason)))
        self.status, self.close = status, close


def status_of(error: EscError | RefusalError) -> int:
    """The status of HTTP for an error."""
    if isinstance(error, RefusalError):
        return error.status
    return 503 if isinstance(error, DeviceError) else 400
