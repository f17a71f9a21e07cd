"""Every error that esc-sr raises on purpose.

EscError                     whatever a user can cause; the command line prints it as one line, exit code 2
├── UsageError               an argument, or a combination of arguments, that cannot work
├── ImageError               a picture file that cannot be read or written
├── WeightsError             a checkpoint that is missing, damaged, or of another network
├── DataError                training or benchmark data that cannot be used
└── DeviceError              a device that is missing, or too small for the work
"""


class EscError(Exception):
    """Base of all errors a user can cause; its message is one line that says what to do."""


class UsageError(EscError, ValueError):
    """An argument, or a combination of arguments, that cannot work."""


class ImageError(EscError):
    """A picture file that cannot be read or written."""


class WeightsError(EscError):
    """A checkpoint that is missing, damaged, or of another network."""


class DataError(EscError):
    """Training or benchmark data that cannot be used."""


class DeviceError(EscError):
    """A device that is missing, or too small for the work."""
