"""What the bytes of a picture file say that libvips does not: its kind, and what else is in it."""

import re
import struct
from collections.abc import Sequence

COMPRESSION, TILE_OFFSETS, EXTRA_SAMPLES = 259, 324, 338  # tags of TIFF
_SUBFILE_TYPE, _PHOTOMETRIC, _SUB_PAGES, _SUBSAMPLING, _DNG_VERSION = 254, 262, 330, 530, 50706  # likewise
_CR2 = b"\x10\0\0\0CR\2"  # after the signature of a TIFF
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_TIFF_ENTRIES = 4096  # libtiff reads no more
_TIFF_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"BM": "bmp",
    b"\0\0\1\0": "ico",
    b"\0\0\0\x0cjP  \r\n\x87\n": "jp2",
    b"\xff\x4f\xff\x51": "jp2",
    **{b"P%d%c" % (digit, space): "ppm" for digit in range(1, 7) for space in b" \t\n\r"},
}
_HEVC = re.compile(rb"(?:.{4})*?he[iv][cmsx]", re.DOTALL)  # brands, four letters each


def kind_of(data: bytes) -> str | None:
    """The format of a file, a value of `FORMATS` or `READ_ONLY`, by its first bytes; None if it is none."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        brands = data[8:12] + data[16 : int.from_bytes(data[:4], "big")]
        return "heic" if _HEVC.match(brands) and b"avif" not in brands else "avif"
    signed = next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), None)
    return "tga" if signed is None and _is_tga(data[:18]) else signed


def _is_tga(header: bytes) -> bool:
    """Whether this is the header of a TGA, which has no signature: every field has to make sense."""
    if len(header) < 18:
        return False
    palette, kind, (width, height), depth, flags = (
        header[1],
        header[2],
        struct.unpack_from("<HH", header, 12),
        header[16],
        header[17],
    )
    depths = {1: (8,), 2: (16, 24, 32), 3: (8, 16)}.get(kind & ~8, ())
    return palette == (kind & ~8 == 1) and depth in depths and min(width, height) > 0 and flags < 64


def hidden_frames(data: bytes, kind: str) -> bool:
    """Whether there is an animation that libvips does not see: an APNG's, or an AVIF image sequence."""
    if kind == "png":
        return data.find(b"acTL", 0, data.find(b"IDAT")) > 0
    return kind == "avif" and data[8:12] == b"avis"


def colour_code(data: bytes, kind: str) -> tuple[int, int] | None:
    """Colour primaries and transfer by the code points of ITU-T H.273, where a PNG or AVIF states them."""
    if kind == "png":
        place = data.find(b"cICP", 0, data.find(b"IDAT"))
        return (data[place + 4], data[place + 5]) if place > 0 else None
    place = data.find(b"colrnclx", 0, data.find(b"mdat")) if kind in ("avif", "heic") else -1
    if place < 0 or len(data) < place + 12:
        return None
    primaries, transfer = struct.unpack_from(">HH", data, place + 8)
    return primaries, transfer


def tiff_tag(data: bytes | memoryview, tag: int) -> bytes | None:
    """The value of a tag of the first page, as stored; None if it is missing."""
    return _tiff_entry(data, tag)[1]


def tiff_numbers(data: bytes | memoryview, tag: int) -> Sequence[int]:
    """The whole numbers of a tag of the first page; none if it is missing or holds something else."""
    code, value = _tiff_entry(data, tag)
    if value is None or code[1:] not in _TIFF_NUMBERS.values():
        return ()
    return struct.unpack(f"{code[0]}{len(value) // struct.calcsize(code)}{code[1]}", value)


def is_raw(data: bytes | memoryview) -> bool:
    """Whether a TIFF is a camera's RAW: its first page is a thumbnail, or of pixels yet to be developed."""
    if data[4:11] == _CR2 or tiff_tag(data, _DNG_VERSION) is not None:
        return True
    reduced = any(number & 1 for number in tiff_numbers(data, _SUBFILE_TYPE))
    return reduced and tiff_tag(data, _SUB_PAGES) is not None


def is_ycbcr(data: bytes | memoryview) -> bool:
    """Whether a TIFF has YCbCr, to which libvips, where it is subsampled, adds an opaque alpha."""
    return tiff_numbers(data, _PHOTOMETRIC) == (6,)


def foreign_colours(data: bytes | memoryview) -> str | None:
    """The colours of a TIFF that libvips does not read, or takes for RGB; None if it does neither."""
    if tiff_numbers(data, _PHOTOMETRIC) in ((8,), (9,), (10,)):
        return "CIELab"
    whole = is_ycbcr(data) and tiff_numbers(data, _SUBSAMPLING) == (1, 1)
    return "bare YCbCr" if whole and tiff_numbers(data, COMPRESSION) != (7,) else None


def warns_of_damage(data: bytes) -> bool:
    """Whether libvips only warns where data of a TIFF end early: in a JPEG inside, and in tiles."""
    return tiff_numbers(data, COMPRESSION) in ((6,), (7,)) or bool(tiff_numbers(data, TILE_OFFSETS))


def _tiff_entry(data: bytes | memoryview, tag: int) -> tuple[str, bytes | None]:
    """Byte order and `struct` code of a tag's values, and these, as stored: whole ones only."""
    order = "<" if data[:2] == b"II" else ">"
    try:
        large = struct.unpack_from(f"{order}H", data, 2)[0] == 43
        pointer, counter, entry = ("Q", "Q", "HHQQ") if large else ("I", "H", "HHII")
        (start,) = struct.unpack_from(order + pointer, data, 8 if large else 4)
        (entries,) = struct.unpack_from(order + counter, data, start)
        start += struct.calcsize(counter)
        step, inside = struct.calcsize("=" + entry), struct.calcsize(pointer)
        for place in range(start, start + step * min(entries, _TIFF_ENTRIES), step):
            found, kind, count, offset = struct.unpack_from(order + entry, data, place)
            if found == tag:
                one = _TIFF_SIZES.get(kind, 0)
                offset = offset if count * one > inside else place + step - inside
                value = bytes(data[offset : offset + count * one])
                return order + _TIFF_NUMBERS.get(kind, "x"), value[: len(value) // max(one, 1) * one]
    except (struct.error, OverflowError):
        pass  # points outside the file
    return order, None
