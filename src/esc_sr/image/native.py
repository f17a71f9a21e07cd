"""Calls into libvips, pixels as its images, what it says of a failure, and Ctrl-C where it has to wait."""

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyvips

_COMPRESSION = re.compile(
    r": (?:Compression )?(.+?) (?:compression support is not configured|(?:strip|tile) decoding is not impl)"
)
_NOT_READ = {
    "samples out of range": "its samples have more than 32 bits",
    "not a whole number of bytes": "its samples do not fill whole bytes",
    "unsupported tiff image type": "its samples have neither 8, 16 nor 32 bits",
    "bad labq format": "its colours are Lab",
    "CIELab": "its colours are Lab",
    "bare YCbCr": "its colours are YCbCr without JPEG",
}
"""What libvips, libtiff and `foreign_colours` say of a TIFF that may well be whole, and what that means."""


def _readable(text: Any) -> str:
    """What libvips logs, as text: it quotes damaged files, whose bytes may be none."""
    return bytes(pyvips.ffi.string(text)).decode(errors="backslashreplace")


pyvips._to_string = _readable  # pyvips's own raises inside of its log callback, and a traceback is shown


@contextmanager
def interrupt_later() -> Iterator[None]:
    """Let Ctrl-C take effect when the block is done."""
    heard: list[object] = []
    main = threading.current_thread() is threading.main_thread()  # only there are signals handled
    before = signal.signal(signal.SIGINT, lambda *about: heard.append(about)) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        if heard:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def libvips() -> Iterator[None]:
    """Make calls into libvips safe.

    Ctrl-C takes effect afterwards: inside, it could be lost, since libvips calls back into Python to log, and
    nothing can be raised through C.

    Raises:
        pyvips.Error: Of any failure, also of one that pyvips cannot report because the text is not UTF-8.
        MemoryError: libvips had too little of it.
    """
    with interrupt_later():
        try:
            yield
        except UnicodeDecodeError as error:
            pyvips.vips_lib.vips_error_clear()  # pyvips leaves the text, which would spoil the next report
            raise pyvips.Error("damaged", "") from error
        except pyvips.Error as error:
            if "out of memory" in str(error):
                raise MemoryError(str(error)) from error
            raise


def reason(error: Exception) -> str:
    """The one line of an error that tells the cause."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    lines = [line.strip() for line in str(error).splitlines()]
    system = [line.removeprefix("system error: ") for line in lines if line.startswith("system error: ")]
    return system[0] if system else [line for line in lines if line and line[0] != "("][-1]


def not_read(error: Exception) -> str | None:
    """What a TIFF has that libvips does not read, and what to do, where that is what an error says."""
    text = str(error)
    if found := _COMPRESSION.search(text):
        return f"its compression, {found[1]}, is not read; save it with Deflate or LZW"
    what = next((what for sign, what in _NOT_READ.items() if sign in text), None)
    return what and f"{what}; convert it to 8 or 16 bit or float grey or RGB first"


def wrapped(pixels: np.ndarray, icc: bytes | None) -> Any:
    """Pixels (H, W, C) of uint8, uint16 or float32 as a libvips image in grey or RGB, with a profile."""
    height, width, bands = pixels.shape
    kind = {np.uint8: "uchar", np.uint16: "ushort", np.float32: "float"}[pixels.dtype.type]
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels).data, width, height, bands, kind)
    image = image.copy(interpretation=colour_space(kind, bands))
    if icc:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)
    return image


def colour_space(kind: str, bands: int) -> str:
    """The colour space that libvips goes by, for one of its number formats and so many channels."""
    if kind == "ushort":
        return "grey16" if bands < 3 else "rgb16"
    return "b-w" if bands < 3 else "srgb"


def of_cmyk(profile: bytes | None) -> bool:
    """Whether there is an ICC profile, and one of CMYK."""
    return profile is not None and profile[16:20] == b"CMYK"


def cmyk_to_srgb(image: Any) -> Any:
    """A CMYK libvips image of 8 or 16 bits as sRGB of as many, through its profile or else a common one."""
    depth = 16 if image.format == "ushort" else 8
    return image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth)
