"""Every error that esc-sr raises on purpose.

EscError                     whatever a user can cause; the command line prints it as one line, exit code 2
├── UsageError               an argument, or a combination of arguments, that cannot work
├── ImageError               a picture file that cannot be read or written
├── VideoError               a video file that cannot be read or written
├── WeightsError             a checkpoint that is missing, damaged, or of another network
├── DataError                training or benchmark data that cannot be used
└── DeviceError              a device that is missing, or too small for the work
"""

import re
from collections.abc import Mapping


def one_line(text: str) -> str:
    """A text with its control characters written out, such as line ends in the names of files."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: repr(found[0])[1:-1], text)


class EscError(Exception):
    """Base of all errors a user can cause; its message is one line that says what to do."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class UsageError(EscError, ValueError):
    """An argument, or a combination of arguments, that cannot work."""


class ImageError(EscError):
    """A picture file that cannot be read or written."""


class VideoError(EscError):
    """A video file that cannot be read or written."""


class WeightsError(EscError):
    """A checkpoint that is missing, damaged, or of another network."""


class DataError(EscError):
    """Training or benchmark data that cannot be used."""


class DeviceError(EscError):
    """A device that is missing, or too small for the work."""


def require(settings: object, rules: Mapping[str, tuple[bool, str]]) -> None:
    """Check the fields of a dataclass: by name, whether the rule holds, and the rule in words.

    Raises:
        UsageError: A rule does not hold.
    """
    for field, (holds, rule) in rules.items():
        if not holds:
            raise UsageError(f"{field}={getattr(settings, field)!r}: must be {rule}")
