"""EXIF, XMP and IPTC: taken from a file, and put right for a picture that was turned and enlarged."""

import re
import struct
from pathlib import Path
from typing import Any

import pyvips

from esc_sr.image.containers import tiff_tag
from esc_sr.image.native import libvips
from esc_sr.image.picture import Picture

CANNOT_HOLD = {
    "png": ("IPTC",),
    "webp": ("IPTC",),
    "avif": ("IPTC",),
    "tiff": ("EXIF",),
    "gif": ("EXIF", "XMP", "IPTC"),
}
"""What libvips cannot write into these formats."""

_BLOCKS = {"icc": "icc-profile-data", "exif": "exif-data", "xmp": "xmp-data", "iptc": "iptc-data"}
_UNKNOWN_DPI = (25.4, 72.0)  # what libvips says of a file that states none
_IPTC_TAG = 33723  # of TIFF
_EXIF_TAGS = (270, 271, 272, 306, 315, 33432, 34665, 34853)  # likewise: description, maker, date, ..., GPS
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
        "dpi": None if round(dpi[0], 1) in _UNKNOWN_DPI else dpi,
    }


def read_blocks(path: Path) -> list[str]:
    """Which of "icc", "exif", "xmp" and "iptc", fields of a `Picture`, a written file has."""
    with libvips():
        image = pyvips.Image.new_from_file(str(path), access="sequential")
        return [name for name, field in _BLOCKS.items() if image.get_typeof(field)]


def has_lost_exif(data: bytes, kind: str) -> bool:
    """Whether there is EXIF where libvips does not read it: in a TIFF, a block or single tags."""
    return kind == "tiff" and any(tiff_tag(data, tag) is not None for tag in _EXIF_TAGS)


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
    if picture.dpi or not picture.exif:
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
    """An XMP packet that says 1 for the orientation and these sizes, wherever it speaks of them."""
    *with_thumbnails, rest = xmp.split(b"</xmp:Thumbnails>")
    xmp = b"".join(part.partition(b"<xmp:Thumbnails>")[0] for part in with_thumbnails) + rest
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
