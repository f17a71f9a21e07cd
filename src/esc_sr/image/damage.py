"""What is wrong with the bytes of a picture file that libvips takes as they are: above all, a missing end.

Downloads that broke off may have their full length, with zeros in place of the end.
"""

import re
import struct
from collections.abc import Callable
from itertools import repeat
from math import ceil, prod

import pyvips

from esc_sr.image.containers import COMPRESSION, TILE_OFFSETS, tiff_numbers, tiff_tag

NO_END = "cut off: no end mark"
ZEROS = "cut off: zeros in place of the end"

_AV1_SIDE = 65_536
_JPEG_SEGMENT = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")  # or the end mark; no marker inside of pixel data
_WEBP_TAIL = 8  # bytes; libwebp's decoder misses 4 of any file by its encoder
_TIFF_ZEROS = {2: 16, 4: 16, 5: 16, 8: 16, 32946: 16, 32773: 130}
"""By the compression of a TIFF, how many bytes of zeros no encoder ends a strip with."""


def is_too_large(data: bytes | memoryview, kind: str) -> bool:
    """Whether a file claims a size that its format does not have, of which libvips complains on stderr."""
    if kind != "avif":
        return False
    sizes = (data[found.end() : found.end() + 8] for found in re.finditer(b"ispe\\0{4}", data))
    return any(max(struct.unpack(">II", size)) > _AV1_SIDE for size in sizes if len(size) == 8)


def fault_of(data: bytes, kind: str) -> str | None:
    """What is wrong with a file that libvips would take; None is nothing. May take as long as decoding it."""
    return _FAULTS[kind](data) if kind in _FAULTS else None


def _png_fault(data: bytes) -> str | None:
    return None if b"IEND\xaeB`\x82" in data else NO_END


def _jpeg_fault(data: bytes) -> str | None:
    """Go from segment to segment up to the end mark; what follows that is no part of the picture."""
    place = 2
    while found := _JPEG_SEGMENT.search(data, place):
        if found[1] == b"\xd9":
            return None
        place = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return NO_END


def _webp_fault(data: bytes) -> str | None:
    """Go to the last chunk, also inside of a frame: zeros at its end must be missed by the decoder.

    A flat picture may well end in thousands of zeros that mean something.
    """
    end = min(8 + _webp_size(data, 4), len(data))
    place, kind, size_at, outer = 12, b"", 0, [4]  # the last: where sizes around a chunk stand
    while place + 8 <= end:
        kind, size_at = data[place : place + 4], place + 4
        if kind == bytes(4):
            return ZEROS
        outer = [4, size_at] if kind == b"ANMF" else outer
        place += 24 if kind == b"ANMF" else 8 + (_webp_size(data, size_at) + 1) // 2 * 2
    whole = place == end and kind in (b"VP8 ", b"VP8L") and _webp_size(data, size_at) > _WEBP_TAIL
    if not whole or any(data[end - _WEBP_TAIL : end]):
        return None
    shorter = bytearray(data[: end - _WEBP_TAIL])
    for at in (*outer, size_at):
        struct.pack_into("<I", shorter, at, max(_webp_size(data, at) - _WEBP_TAIL, 0))
    try:
        pyvips.Image.webpload_buffer(bytes(shorter), n=-1, fail_on="error").copy_memory()
    except pyvips.Error:
        return None
    return ZEROS


def _webp_size(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 4], "little")


def _tiff_fault(data: bytes) -> str | None:
    """Count the strips or tiles of the first page, and look at the end of the last one in the file."""
    tiled = bool(tiff_numbers(data, TILE_OFFSETS))
    offsets, sizes = (tiff_numbers(data, tag) for tag in ((TILE_OFFSETS, 325) if tiled else (273, 279)))
    width, height = _tiff_number(data, 256), _tiff_number(data, 257)
    across, down = (_tiff_number(data, tag) for tag in ((322, 323) if tiled else (256, 278)))
    parts = ceil(width / (across or 1)) * ceil(height / (down or max(height, 1)))
    if _tiff_number(data, 284) == 2:  # a plane for each channel
        parts *= _tiff_number(data, 277)
    there = [span for span in zip(offsets, sizes or repeat(1), strict=False) if all(span)]
    if len(there) < parts:
        return f"{len(there)} of its {parts} strips or tiles are there"
    offset, size = max(there, default=(0, 0))
    return _tiff_part_fault(data[offset : offset + size], data)


def _tiff_part_fault(part: bytes, data: bytes) -> str | None:
    """Look for the end of a strip or tile.

    Where pixels are not compressed, zeros are black, and in faxes of group 3 they fill lines up.
    """
    compression = _tiff_number(data, COMPRESSION)
    if compression == 7:
        return _jpeg_fault(part) or _jpeg_fault(
            tiff_tag(data, 347) or b"\xff\xd8\xff\xd9"
        )  # tables for all parts
    if compression == 50001:
        return _webp_fault(part)
    zeros = _TIFF_ZEROS.get(compression)
    return ZEROS if zeros and part.endswith(bytes(zeros)) else None


def _tiff_number(data: bytes, tag: int) -> int:
    """The only number of a tag; 0 if it is missing."""
    return (*tiff_numbers(data, tag), 0)[0]


def _gif_fault(data: bytes) -> str | None:
    """Follow the blocks of a GIF up to its trailer, and count the pixels of its frames."""
    place = 13 + _palette(data[10:11])
    while place < len(data):
        expected, code_size = 0, b""
        match data[place]:
            case 0x3B:
                return None
            case 0x21:  # extension: a label, then sub-blocks
                place += 2
            case 0x2C:  # frame: its place and size, its palette, the code size, then sub-blocks
                expected = prod(struct.unpack_from("<HH", data[place + 5 : place + 9].ljust(4, b"\0")))
                place += 11 + _palette(data[place + 9 : place + 10])
                code_size = data[place - 1 : place]
            case _:
                break
        blocks = []
        while place < len(data) and data[place]:
            blocks.append(data[place + 1 : place + 1 + data[place]])
            place += 1 + data[place]
        place += 1
        if code_size and _lzw_pixels(b"".join(blocks), code_size[0]) < expected:
            return "a frame ends early"
    return NO_END


def _lzw_pixels(data: bytes, code_size: int) -> int:
    """How many pixels the codes of a GIF's frame stand for, up to the end code or one without a meaning."""
    if code_size > 11:
        return 0  # codes have 12 bits at most
    clear, width = 1 << code_size, code_size + 1
    lengths = [1] * clear + [0, 0]  # of the strings that the codes stand for; those two are no strings
    total = last = bits = held = 0
    for byte in data:
        bits |= byte << held
        held += 8
        while held >= width:
            code = bits & ((1 << width) - 1)
            bits >>= width
            held -= width
            if code == clear:
                del lengths[clear + 2 :]
                width, last = code_size + 1, 0
                continue
            if last and len(lengths) < 4096:
                lengths.append(last + 1)
            if code == clear + 1 or code >= len(lengths):
                return total
            last = lengths[code]
            total += last
            if len(lengths) == 1 << width and width < 12:
                width += 1
    return total


def _palette(flags: bytes) -> int:
    """How many bytes the palette has that such flags announce."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


_FAULTS: dict[str, Callable[[bytes], str | None]] = {
    "png": _png_fault,
    "jpeg": _jpeg_fault,
    "webp": _webp_fault,
    "tiff": _tiff_fault,
    "gif": _gif_fault,
}
