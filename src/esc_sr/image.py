"""Picture files in and out: the only module that touches them. libvips (pyvips) does the decoding.

Pixel values are kept as they are, with the profile that says what they mean; only CMYK is converted. What a
format cannot hold is converted on writing, as `write_image` says.
"""

import contextlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from esc_sr.errors import ImageError, UsageError

FORMATS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".avif": "avif",
}
"""What is read and written: suffix (lower case) to format."""

MAX_SIDE = {"jpeg": 65_500, "webp": 16_383, "avif": 16_384}
"""The longest side, in pixels, that these formats hold; the others hold any."""

_SAVE: dict[str, dict[str, Any]] = {
    "png": {"compression": 6},
    "jpeg": {"Q": 95, "subsample_mode": "off", "optimize_coding": True},
    "webp": {"Q": 95, "smart_subsample": True},
    "tiff": {"compression": "deflate", "predictor": "horizontal"},
    "avif": {"Q": 90, "subsample_mode": "off", "bitdepth": 8, "effort": 2, "compression": "av1"},
}
_SAMPLES = {"uchar": np.uint8, "ushort": np.uint16}
_SPACES = ("b-w", "grey16", "srgb", "rgb16")
_PNG_END = b"IEND\xaeB`\x82"
_UNKNOWN_DPI = (25.4, 72.0)  # what libvips says of a file that states none

pyvips.cache_set_max(0)  # no operation is ever repeated, and a cached one would keep its picture in memory


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels as stored in a file, upright, with what the file says about them.

    Attributes:
        pixels: (H, W, C) uint8 or uint16, full range; C is 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha. The
            colours are not multiplied by alpha.
        icc: ICC profile of the pixels; None means sRGB.
        exif: EXIF block; its orientation no longer holds and is written as 1.
        xmp: XMP packet, with orientation 1.
        dpi: Horizontal and vertical resolution in pixels per inch; None is unknown, and written as 72.

    Raises:
        UsageError: The pixels have another shape or type.
    """

    pixels: np.ndarray
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or 0 in shape or shape[2] > 4 or dtype not in (np.uint8, np.uint16):
            raise UsageError(f"a picture is uint8 or uint16 (H, W, 1 to 4), not {dtype} {shape}")


def format_of(path: str | Path) -> str:
    """Name the format that a file name's suffix stands for: a value of `FORMATS`.

    Raises:
        ImageError: No such suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ImageError(f"{path}: no picture format ends in {suffix!r}; use {', '.join(FORMATS)}")
    return FORMATS[suffix]


def read_image(path: str | Path) -> Picture:
    """Read a picture file of any format in `FORMATS`; the content counts, not the suffix.

    Raises:
        ImageError: The file cannot be opened, or `decode_image` refuses it.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    return decode_image(data, str(path))


def read_size(path: str | Path) -> tuple[int, int]:
    """Height and width of a picture file in px, upright, without decoding it.

    Raises:
        ImageError: The file cannot be opened, or is no picture.
    """
    try:
        image = pyvips.Image.new_from_file(str(path), access="sequential")
    except pyvips.Error as error:
        raise ImageError(f"cannot read {path}: {_reason(error)}") from error
    turned = (_field(image, "orientation") or 1) >= 5
    return (image.width, image.height) if turned else (image.height, image.width)


def decode_image(data: bytes, name: str) -> Picture:
    """Decode a picture file's bytes, wholly or not at all.

    The EXIF orientation is applied. Palettes and fewer than 8 bits become 8 bits; 9 to 16 bits become 16.
    CMYK becomes sRGB, through its profile where it has one. A profile of another kind of picture (RGB for a
    grey one) is dropped. Of several pages or frames the first is read.

    Args:
        data: The whole file.
        name: What to call it in errors.

    Returns:
        The picture; 16 bit when the file is, whatever its values.

    Raises:
        ImageError: Not a picture in a known format, damaged or cut off, or of a kind that cannot be kept
            (samples that are not 8 or 16 bit integers, more than 4 channels, other colour spaces).
    """
    if not data:
        raise ImageError(f"cannot read {name}: the file is empty")
    try:
        image = _open(data)
        if image.interpretation == "cmyk" and image.format in _SAMPLES:
            depth = 16 if image.format == "ushort" else 8
            image = image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth)
            image.remove("icc-profile-data")  # the result is plain sRGB
        if image.format not in _SAMPLES or image.interpretation not in _SPACES or image.bands > 4:
            raise ImageError(
                f"cannot read {name}: {image.bands} channels of {image.interpretation} {image.format}; "
                "convert it to 8 or 16 bit grey or RGB first"
            )
        pixels = np.asarray(image.numpy()).reshape(image.height, image.width, image.bands)
    except pyvips.Error as error:
        raise ImageError(
            f"cannot read {name}: not a complete PNG, JPEG, WebP, TIFF or AVIF picture ({_reason(error)})"
        ) from error
    bits = _field(image, "heif-bitdepth") or 8
    if bits > 8:  # libvips shifts 10 and 12 bits up; repeating the top bits makes white 65535
        pixels = pixels | (pixels >> bits)
    dpi = (image.xres * 25.4, image.yres * 25.4)
    exif, xmp = _field(image, "exif-data"), _field(image, "xmp-data")
    return Picture(
        pixels,
        icc=_fitting(_field(image, "icc-profile-data"), image.bands),
        exif=exif if exif and len(exif) > 8 else None,  # no more than a TIFF header: libvips refuses it
        xmp=re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp) if xmp else None,
        dpi=None if round(dpi[0], 1) in _UNKNOWN_DPI else dpi,
    )


def write_image(
    picture: Picture, path: str | Path, *, format: str | None = None, overwrite: bool = False
) -> None:
    """Write a picture file, whole or not at all: encoded beside its place, then moved there.

    PNG and TIFF (deflate) keep every value. JPEG (quality 95, 4:4:4), WebP (95) and AVIF (90, 4:4:4) hold 8
    bits: 16-bit values are rounded. JPEG has no alpha: the picture is laid on white. WebP and AVIF have no
    grey: it becomes RGB, through its profile where it has one. Profile, EXIF, XMP and resolution are written
    along, except a profile of another kind of picture, a thumbnail, and, in TIFF, EXIF.

    Args:
        picture: What to write.
        path: The file; its folder must exist.
        format: A value of `FORMATS`, or a suffix without its dot; by default the path's suffix decides.
        overwrite: Replace a file of that name. Otherwise such a file is an error and stays as it is.

    Raises:
        ImageError: No such format, too large for the format, the file exists, or the disk refuses (folder
            missing, no permission, full).
    """
    path = Path(path)
    kind = format_of(path if format is None else f"{path.stem}.{format}")
    height, width, _ = picture.pixels.shape
    limit = MAX_SIDE.get(kind)
    if limit and max(height, width) > limit:
        raise ImageError(
            f"cannot write {path}: {width} x {height} pixels, but {kind} holds at most {limit} a side; "
            "choose png or tiff"
        )
    part = path.parent / f".esc-sr-{secrets.token_hex(8)}.part"
    try:
        if path.exists() and not path.is_file():
            raise ImageError(f"cannot write {path}: not a regular file")
        with open(part, "x+b") as file:
            _save(_prepare(picture, kind), kind, file.fileno(), bool(picture.exif or picture.dpi))
        if not overwrite:
            open(path, "x").close()  # claims the name, or fails: nobody can take it in between
        os.replace(part, path)
    except FileExistsError as error:
        raise ImageError(
            f"cannot write {path}: the file exists; allow overwriting or name another"
        ) from error
    except (OSError, pyvips.Error) as error:
        raise ImageError(f"cannot write {path}: {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):  # moved, or never made
            part.unlink()


def _open(data: bytes) -> Any:
    """The first page as an upright libvips image, not yet decoded; damage shows later, on decoding."""
    image = pyvips.Image.new_from_buffer(data, "", access="sequential", fail_on="error")
    loader = image.get("vips-loader").removesuffix("_buffer")
    if loader not in ("pngload", "jpegload", "webpload", "tiffload", "heifload"):
        raise pyvips.Error(loader)
    if loader == "pngload" and _PNG_END not in data:  # libvips does not miss it
        raise pyvips.Error("pngload: no end chunk")
    if (_field(image, "orientation") or 1) != 1:
        return image.copy_memory().autorot()
    return image.copy()


def _prepare(picture: Picture, kind: str) -> Any:
    """The picture as a libvips image that the format can hold, with its metadata."""
    pixels = np.ascontiguousarray(picture.pixels)
    height, width, bands = pixels.shape
    wide = pixels.dtype == np.uint16
    space = ("grey16" if wide else "b-w") if bands < 3 else ("rgb16" if wide else "srgb")
    image = pyvips.Image.new_from_memory(pixels.data, width, height, bands, "ushort" if wide else "uchar")
    image = image.copy(interpretation=space)
    if wide and kind not in ("png", "tiff"):
        image = (image / 257).rint().cast("uchar").copy(interpretation="b-w" if bands < 3 else "srgb")
    if kind == "jpeg" and bands in (2, 4):
        image = image.cast("float").flatten(background=255, max_alpha=255).rint().cast("uchar")
    icc = _fitting(picture.icc, bands)
    blobs = {"icc-profile-data": icc, "exif-data": picture.exif, "xmp-data": picture.xmp}
    for name, blob in blobs.items():
        if blob:
            image.set_type(pyvips.GValue.blob_type, name, blob)
    # Setting the EXIF block unpacked it into fields; what follows replaces those that no longer hold.
    if picture.dpi or not picture.exif:
        across, down = picture.dpi or (72.0, 72.0)
        image = image.copy(xres=across / 25.4, yres=down / 25.4)
    image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    image.remove("jpeg-thumbnail-data")
    if icc and bands < 3 and kind in ("webp", "avif"):
        image = image.icc_transform("srgb", embedded=True)
    return image


def _save(image: Any, kind: str, descriptor: int, with_exif: bool) -> None:
    """Encode into an open file; libvips makes up an EXIF block, the resolution in it, unless told not to."""
    keep = pyvips.enums.ForeignKeep
    options = _SAVE[kind] | {"keep": keep.ALL if with_exif else keep.ALL & ~keep.EXIF}
    if kind == "tiff":
        options["bigtiff"] = image.width * image.height * image.bands > 2**30
    target = pyvips.Target.new_to_descriptor(descriptor)
    saver = "heif" if kind == "avif" else kind
    pyvips.Operation.call(f"{saver}save_target", image, target, **options)


def _fitting(profile: bytes | None, bands: int) -> bytes | None:
    """The ICC profile if it is one for so many channels."""
    space = b"GRAY" if bands < 3 else b"RGB "
    return profile if profile and profile[16:20] == space else None


def _field(image: Any, name: str) -> Any:
    """A piece of libvips metadata, or None."""
    return image.get(name) if image.get_typeof(name) else None


def _reason(error: Exception) -> str:
    """The one line of an error that tells the cause."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    lines = [line.strip() for line in str(error).splitlines()]
    system = [line.removeprefix("system error: ") for line in lines if line.startswith("system error: ")]
    return system[0] if system else [line for line in lines if line and line[0] != "("][-1]
