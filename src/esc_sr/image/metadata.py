"""EXIF, XMP and IPTC: taken from a file, and put right for a picture that was turned and enlarged."""

import re
import struct
from pathlib import Path
from typing import Any

import pyvips

from esc_sr.image.containers import tiff_tag
from esc_sr.image.native import libvips
from esc_sr.image.picture import Picture
from esc_sr.image.png import comments_of

CANNOT_HOLD = {
    "png": ("IPTC",),
    "jpeg": ("comments",),
    "webp": ("IPTC", "comments"),
    "avif": ("IPTC", "comments"),
    "tiff": ("EXIF", "comments"),
    "gif": ("EXIF", "XMP", "IPTC", "comments"),
}
"""What cannot be written into these formats here."""

_BLOCKS = {"icc": "icc-profile-data", "exif": "exif-data", "xmp": "xmp-data", "iptc": "iptc-data"}
_UNKNOWN_DPI = (25.4, 72.0)  # what libvips says of a file that states none
_X_RESOLUTION = 282  # of TIFF, and so of EXIF
_IPTC_TAG = 33723  # of TIFF
_EXIF_TAGS = (270, 271, 272, 306, 315, 33432, 34665, 34853)  # likewise: description, maker, date, ..., GPS
_GAIN_MAP = "the HDR gain map"
_INSIDE = {
    _GAIN_MAP: re.compile(rb"\bhdrgm:Version\b"),
    "the video inside": re.compile(rb"\b(?:MotionPhoto|MicroVideo)(?:\s*=\s*[\"']|>)1"),
}
"""What XMP says of a JPEG that has more behind it, by what that is."""
_OF_WHAT_IS_INSIDE = rb"(?:hdrgm:\w+|G?Camera:(?:Motion|Micro)\w+|xmpNote:HasExtendedXMP)"
_PARTS = re.compile(
    rb"""<Container:Directory\b.*?</Container:Directory>|<(%s)>[^<]*</\1>|\s%s\s*=\s*(?:"[^"]*"|'[^']*')"""
    % (_OF_WHAT_IS_INSIDE, _OF_WHAT_IS_INSIDE),
    re.DOTALL,
)
_IPTC_IN_JPEG = b"8BIM\x04\x04"  # the resource in Photoshop's block


def metadata_of(image: Any, data: bytes, kind: str) -> dict[str, Any]:
    """The fields of a `Picture` that are neither pixels nor colours, of a decoded file."""
    exif, iptc = field(image, "exif-data"), field(image, "iptc-data")
    if kind == "jpeg" and iptc:
        iptc = _from_photoshop(iptc)
    elif kind == "tiff":
        iptc = tiff_tag(data, _IPTC_TAG)  # libvips gives a quarter of it
    dpi = (image.xres * 25.4, image.yres * 25.4)
    return {
        "exif": exif if exif and len(exif) > 8 else None,  # no more than a TIFF header: libvips refuses it
        "xmp": field(image, "xmp-data") or None,
        "iptc": iptc or None,
        "comments": comments_of(data) if kind == "png" else None,
        "dpi": None if round(dpi[0], 1) in _UNKNOWN_DPI else dpi,
    }


def read_blocks(path: Path) -> list[str]:
    """Which of "icc", "exif", "xmp" and "iptc", fields of a `Picture`, a written file has."""
    with libvips():
        image = pyvips.Image.new_from_file(str(path), access="sequential")
        return [name for name, field in _BLOCKS.items() if image.get_typeof(field)]


def not_kept(image: Any, data: bytes, kind: str) -> list[str]:
    """What a file has that is lost in reading, a line each: EXIF of a TIFF, and what a JPEG has inside."""
    if kind == "tiff" and any(tiff_tag(data, tag) is not None for tag in _EXIF_TAGS):
        return ["EXIF of TIFF files is not kept"]
    if kind != "jpeg":
        return []
    xmp = field(image, "xmp-data") or b""
    found = {what for what, sign in _INSIDE.items() if sign.search(xmp)}
    if image.get_typeof("gainmap-data"):
        found.add(_GAIN_MAP)
    return [f"{what} is not kept" for what in sorted(found)]


def set_metadata(image: Any, picture: Picture, kind: str) -> Any:
    """Attach a picture's metadata to the libvips image that is to be written.

    Orientation and sizes are made those of the picture, thumbnails are dropped.
    """
    height, width, _ = picture.pixels.shape
    iptc = picture.iptc
    if iptc and kind == "jpeg":
        iptc = b"Photoshop 3.0\0" + _IPTC_IN_JPEG + struct.pack(">HI", 0, len(iptc)) + iptc
        iptc += bytes(len(iptc) % 2)
    elif iptc and kind == "tiff":
        iptc += bytes(3 * len(iptc))  # libvips writes a quarter: it counts words where libtiff counts bytes
    xmp = _corrected(picture.xmp, width, height) if picture.xmp else None
    for name, blob in {"exif-data": picture.exif, "xmp-data": xmp, "iptc-data": iptc}.items():
        if blob:
            image.set_type(pyvips.GValue.blob_type, name, blob)
    # Setting the EXIF block unpacked it into fields; what follows replaces those that no longer hold.
    if picture.dpi or tiff_tag((picture.exif or b"").removeprefix(b"Exif\0\0"), _X_RESOLUTION) is None:
        across, down = picture.dpi or (72.0, 72.0)
        image = image.copy(xres=across / 25.4, yres=down / 25.4)
    image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    for name, side in (("ImageWidth", width), ("ImageLength", height)):
        if image.get_typeof(f"exif-ifd0-{name}"):
            image.set_type(pyvips.GValue.gstr_type, f"exif-ifd0-{name}", str(side))
    for name in ("PixelXDimension", "PixelYDimension"):  # libvips makes them anew, in 32 bits
        image.remove(f"exif-ifd2-{name}")
    image.remove("jpeg-thumbnail-data")
    return image


def field(image: Any, name: str) -> Any:
    """A piece of libvips metadata, or None."""
    return image.get(name) if image.get_typeof(name) else None


def _corrected(xmp: bytes, width: int, height: int) -> bytes:
    """An XMP packet that says 1 for the orientation and these sizes, and nothing of parts that are gone."""
    *with_thumbnails, rest = xmp.split(b"</xmp:Thumbnails>")
    xmp = b"".join(part.partition(b"<xmp:Thumbnails>")[0] for part in with_thumbnails) + rest
    xmp = _PARTS.sub(b"", xmp)
    facts = {
        rb"tiff:Orientation": 1,
        rb"tiff:ImageWidth|exif:PixelXDimension": width,
        rb"tiff:ImageLength|exif:PixelYDimension": height,
    }
    for names, value in facts.items():
        xmp = re.sub(rb"((?:%s)(?:=[\"']|>))\d+" % names, rb"\g<1>%d" % value, xmp)
    return xmp


def _from_photoshop(block: bytes) -> bytes | None:
    """The IPTC records in the block that Photoshop's resources make in a JPEG."""
    place = block.find(_IPTC_IN_JPEG) + len(_IPTC_IN_JPEG)
    if place < len(_IPTC_IN_JPEG) or place >= len(block):
        return None
    place += (block[place] + 2) // 2 * 2  # a name, filled up to an even length
    size = int.from_bytes(block[place : place + 4], "big")
    return block[place + 4 : place + 4 + size]
