"""PNG without a density: libvips always writes one, of 72 dpi where none is known."""

import re
from typing import BinaryIO

import pyvips

_DENSITY = re.compile(rb"\0\0\0\x09pHYs.{13}", re.DOTALL)  # length, type, nine bytes, check sum


class DensityFilter:
    """Passes a PNG on to a file as libvips writes it, but for its density.

    Attributes:
        target: For libvips to write to.
        error: What went wrong with the file; nothing can be raised through libvips.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.target = pyvips.TargetCustom()
        self.target.on_write(self._write)
        self.error: OSError | None = None
        self._file, self._start, self._passed = file, b"", False

    def _write(self, data: bytes) -> int:
        """Hold back what comes before the pixels until all of it is there."""
        piece = data
        if not self._passed:
            self._start += data
            self._passed = b"IDAT" in self._start
            piece = _DENSITY.sub(b"", self._start, count=1) if self._passed else b""
        try:
            self._file.write(piece)
        except OSError as error:
            self.error = error
            return -1
        return len(data)
