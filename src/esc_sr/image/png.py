"""PNG past libvips: without a density that nobody knows, and with the texts of the file it came from."""

import re
import zlib
from typing import BinaryIO

import pyvips

_DENSITY = re.compile(rb"\0\0\0\x09pHYs.{13}", re.DOTALL)  # length, type, nine bytes, check sum
_HEADER = 33  # bytes of the signature and the first chunk
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_METADATA = (b"XML:com.adobe.xmp\0", b"Raw profile type ")  # not texts: XMP, and EXIF as ImageMagick hides it


class PNGFilter:
    """Passes a PNG on to a file as libvips writes it, but for its density and its texts.

    Attributes:
        target: For libvips to write to.
        error: What went wrong with the file; nothing can be raised through libvips.
    """

    def __init__(self, file: BinaryIO, density: bool, comments: bytes) -> None:
        """Stand before a file.

        Args:
            file: Is written to.
            density: Whether there is one to write: libvips always writes one, of 72 dpi where none is known.
            comments: As of `comments_of`.
        """
        self.target = pyvips.TargetCustom()
        self.target.on_write(self._write)
        self.error: OSError | None = None
        self._density, self._comments = density, comments
        self._file, self._start, self._passed = file, b"", False

    def _write(self, data: bytes) -> int:
        """Hold back what comes before the pixels until all of it is there."""
        piece = data
        if not self._passed:
            self._start += data
            self._passed = b"IDAT" in self._start
            piece = self._changed(self._start) if self._passed else b""
        try:
            self._file.write(piece)
        except OSError as error:
            self.error = error
            return -1
        return len(data)

    def _changed(self, start: bytes) -> bytes:
        """What comes before the pixels, as it is to be."""
        start = start if self._density else _DENSITY.sub(b"", start, count=1)
        return start[:_HEADER] + self._comments + start[_HEADER:]


def comments_of(data: bytes) -> bytes | None:
    """The whole and undamaged chunks of text in a PNG, as they are; None if there are none."""
    found, place = [], 8
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if end > len(data):
            break
        if data.startswith(_TEXT, place + 4) and not data.startswith(_METADATA, place + 8):
            if zlib.crc32(data[place + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big"):
                found.append(data[place:end])
        place = end
    return b"".join(found) or None
