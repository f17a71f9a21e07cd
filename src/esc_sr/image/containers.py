"""What the bytes of a picture file say that libvips does not: its kind, its end, and what else is in it."""

import re
import struct
from math import prod

_AV1_SIDE = 65_536
_COMPRESSION_TAG = 259  # of TIFF
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
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


def fault_of(data: bytes, kind: str) -> str | None:
    """What is wrong with a file that libvips would take, or stumble over; None is nothing."""
    if kind == "png":
        return None if b"IEND\xaeB`\x82" in data else "no end mark"
    if kind == "gif":
        return _gif_fault(data)
    if kind == "avif":
        sizes = (data[found.end() : found.end() + 8] for found in re.finditer(b"ispe\\0{4}", data))
        if any(max(struct.unpack(">II", size)) > _AV1_SIDE for size in sizes if len(size) == 8):
            return "larger than AVIF can be"
    return None


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


def tiff_tag(data: bytes, tag: int) -> bytes | None:
    """The value of a tag of the first page, as stored; None if it is missing, and in a BigTIFF."""
    order = "<" if data[:2] == b"II" else ">"
    try:
        if struct.unpack_from(f"{order}H", data, 2)[0] != 42:
            return None
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, start)
        for place in range(start + 2, start + 2 + 12 * entries, 12):
            found, kind, count, offset = struct.unpack_from(f"{order}HHII", data, place)
            if found == tag:
                size = count * _TIFF_SIZES.get(kind, 0)
                return data[offset : offset + size] if size > 4 else data[place + 8 : place + 8 + size]
    except struct.error:
        pass  # points outside the file
    return None


def has_jpeg_inside(data: bytes) -> bool:
    """Whether a TIFF is compressed as a JPEG, whose decoder only warns where data end early."""
    return tiff_tag(data, _COMPRESSION_TAG) in (b"\6\0", b"\7\0", b"\0\6", b"\0\7")


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
    return "no end mark"


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
