"""PNG past libvips: colours that it says by numbers, no density that nobody knows, texts that are kept."""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import pyvips

from esc_sr.image.profile import gamma_profile

_DENSITY = re.compile(rb"\0\0\0\x09pHYs.{13}", re.DOTALL)  # length, type, nine bytes, check sum
_HEADER = 33  # bytes of the signature and the first chunk
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_COLOURS = (b"gAMA", b"cHRM", b"sRGB")
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
    """The chunks of text in a PNG, as they are; None if there are none."""
    texts = (chunk for chunk in _chunks(data, _TEXT) if not chunk.startswith(_METADATA, 8))
    return b"".join(texts) or None


def colours_of(data: bytes, grey: bool) -> bytes | None:
    """The profile that gAMA and cHRM of a PNG stand for, where nothing better is there; None is sRGB."""
    found = {chunk[4:8]: chunk[8:-4] for chunk in _chunks(data, _COLOURS)}
    gamma, places = found.get(b"gAMA", b""), found.get(b"cHRM", b"")
    if b"sRGB" in found or len(gamma) != 4:
        return None
    primaries = struct.unpack(">8I", places) if len(places) == 32 else ()
    return gamma_profile(int.from_bytes(gamma, "big"), primaries, grey)


def _chunks(data: bytes, kinds: tuple[bytes, ...]) -> Iterator[bytes]:
    """The whole and undamaged chunks of some kinds in a PNG."""
    place = 8
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if end > len(data):
            break
        if data.startswith(kinds, place + 4):
            if zlib.crc32(data[place + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big"):
                yield data[place:end]
        place = end
