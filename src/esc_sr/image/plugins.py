"""Formats that libvips does not read here: by Pillow BMP, ICO, TGA, PPM and JPEG 2000, by pi-heif HEIC.

Each file is given to the one decoder of its format, past Pillow's search and its own limit of pixels.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from math import prod
from typing import Any, BinaryIO

import numpy as np
import pyvips

from esc_sr.errors import EscError, ImageError
from esc_sr.image.native import of_cmyk, wrapped
from esc_sr.image.picture import READ_ONLY, Header
from esc_sr.image.pillow import from_pillow

PLUGIN_KINDS = frozenset(READ_ONLY.values())
"""Formats that are read here."""

_NAMES = {"ppm": "PPM", "jp2": "JPEG 2000"}
_PLUGINS = {"bmp": "Bmp", "tga": "Tga", "ppm": "Ppm", "jp2": "Jpeg2K"}
_SIZ = b"\xff\x4f\xff\x51"  # the start of JPEG 2000's codestream; 42 bytes on is the depth of its channels
_MAX_DPI = 1e6  # more is damage, which libvips would complain of
_V5 = 124  # size of the BMP header that can have a profile

HEIC_NEEDS = "HEIC, which needs one more package: pip install 'esc-sr[heic]'"
"""What to do where `can_read` says no."""


def can_read(kind: str) -> bool:
    """Whether a format is one of these, and what it needs is installed."""
    return kind in PLUGIN_KINDS and (kind != "heic" or find_spec("pi_heif") is not None)


def plugin_header(file: BinaryIO, kind: str, name: str) -> Header:
    """What the header of a file of `PLUGIN_KINDS` says.

    Raises:
        ImageError: Damaged, or what it needs is not installed.
    """
    with _one_line(kind, name):
        opened = _opened(file, kind)
        width, height = opened.size
        return Header(1, height, width, 8 if "16" in opened.mode or kind == "ppm" else 4)


def plugin_image(data: bytes, kind: str, name: str, notify: Callable[[str], object]) -> Any:
    """Decode a file of `PLUGIN_KINDS`, to a libvips image with profile and metadata.

    Raises:
        ImageError: Damaged, or what it needs is not installed.
    """
    with _one_line(kind, name):
        opened = _opened(BytesIO(data), kind)
        bits = opened.info.get("bit_depth") if kind == "heic" else _jp2_bits(data) if kind == "jp2" else None
        icc = opened.info.get("icc_profile") or _profile(data, kind)
        inks = opened.mode == "CMYK" or (opened.mode == "RGBA" and of_cmyk(icc))
        pixels = np.asarray(opened) if inks else _pixels(opened, data, kind)
        image = wrapped(pixels if pixels.ndim == 3 else pixels[:, :, None], icc)
        image = image.copy(interpretation="cmyk") if inks else image
    if bits and bits > 8 and pixels.dtype == np.uint8:
        notify(f"{name}: its {bits} bits a channel are read as 8")
    elif bits and bits > 8:
        image.set_type(pyvips.GValue.gint_type, "heif-bitdepth", bits)
    exif = opened.info.get("exif")
    if exif and not exif.startswith(b"Exif\0\0"):
        exif = b"Exif\0\0" + exif
    for field, blob in {"exif-data": exif, "xmp-data": opened.info.get("xmp")}.items():
        if blob:
            image.set_type(pyvips.GValue.blob_type, field, blob)
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)  # pi-heif has turned it; what EXIF says is past
    dpi = opened.info.get("dpi")
    if dpi and 0 < min(dpi) <= max(dpi) < _MAX_DPI:
        image = image.copy(xres=dpi[0] / 25.4, yres=dpi[1] / 25.4)
    return image


@contextmanager
def _one_line(kind: str, name: str) -> Iterator[None]:
    """Turn whatever a decoder raises of a damaged file into one error."""
    try:
        if not can_read(kind):
            raise ImageError(f"cannot read {name}: {HEIC_NEEDS}")
        yield
    except (EscError, MemoryError):
        raise
    except Exception as error:
        what = f"{error}".split("\n")[0] or type(error).__name__
        raise ImageError(
            f"cannot read {name}: not a complete {_NAMES.get(kind, kind.upper())} picture ({what})"
        ) from error


def _opened(file: BinaryIO, kind: str) -> Any:
    """A file whose header is read: a PIL image, or what pi-heif has in its place."""
    if kind == "heic":
        return import_module("pi_heif").open_heif(file, convert_hdr_to_8bit=False)
    if kind == "ico":
        icons = import_module("PIL.IcoImagePlugin").IcoFile(file)
        best = max(range(len(icons.entry)), key=lambda place: _worth(icons.entry[place]))
        return icons.frame(best)
    name = f"{_PLUGINS[kind]}ImagePlugin"
    return getattr(import_module(f"PIL.{name}"), name.replace("Plugin", "File"))(file)


def _worth(entry: Any) -> tuple[int, int]:
    """What makes one icon of a file better than another: its size, then its colours."""
    return entry.square, entry.color_depth


def _pixels(opened: Any, data: bytes, kind: str) -> np.ndarray:
    """(H, W) or (H, W, C) of uint8 or uint16."""
    if kind == "heic":
        return np.array(opened)  # a copy: what pi-heif shows is gone when it is
    if kind == "ppm" and opened.mode == "RGB" and opened.tile[0].codec_name.startswith("ppm"):
        codec, _, offset, (_, maximum) = opened.tile[0]
        shape = (opened.height, opened.width, 3)
        if maximum > 255 and codec == "ppm_plain":  # Pillow makes 8 bits of colours, and 16 of grey
            grey = b"P2 %d %d %d\n" % (3 * opened.width, opened.height, maximum) + data[offset:]
            return np.asarray(_opened(BytesIO(grey), kind)).astype(np.uint16).reshape(shape)
        if maximum > 255:
            levels = np.frombuffer(data, ">u2", prod(shape), offset).clip(max=maximum)
            return np.rint(levels * (65535 / maximum)).astype(np.uint16).reshape(shape)
    if opened.mode == "I":  # a PGM of more than 8 bits, filled up to 16
        return np.asarray(opened).astype(np.uint16)
    pixels = from_pillow(opened)
    unused = kind in ("bmp", "tga") and opened.mode == "RGBA" and not pixels[:, :, 3].any()
    return pixels[:, :, :3] if unused else pixels  # their fourth byte is alpha or nothing


def _jp2_bits(data: bytes) -> int | None:
    """How many bits the first channel of a JPEG 2000 has."""
    place = data.find(_SIZ)
    return (data[place + 42] & 0x7F) + 1 if 0 <= place < len(data) - 42 else None


def _profile(data: bytes, kind: str) -> bytes | None:
    """The ICC profile in a BMP or JPEG 2000, where Pillow leaves it."""
    if kind == "bmp" and data[14:18] == struct.pack("<I", _V5) and data[70:74] == b"DEBM":
        offset, size = struct.unpack_from("<II", data, 126)
        return data[14 + offset : 14 + offset + size]
    place = data.find(b"colr\x02", 0, data.find(_SIZ)) if kind == "jp2" else -1
    if place < 4:
        return None
    (size,) = struct.unpack_from(">I", data, place - 4)
    return data[place + 7 : place - 4 + size]
