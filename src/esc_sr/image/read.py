"""Picture files in: wholly and as they are, or not at all."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyvips

from esc_sr.errors import ImageError
from esc_sr.image.containers import (
    EXTRA_SAMPLES,
    colour_code,
    foreign_colours,
    hidden_frames,
    is_raw,
    is_ycbcr,
    kind_of,
    tiff_numbers,
    warns_of_damage,
)
from esc_sr.image.damage import fault_of, is_too_large
from esc_sr.image.metadata import field, metadata_of, not_kept
from esc_sr.image.native import cmyk_to_srgb, libvips, not_read, of_cmyk, reason
from esc_sr.image.others import is_special, what_first
from esc_sr.image.picture import ANIMATED, Animation, Header, Picture
from esc_sr.image.plugins import PLUGIN_KINDS, plugin_header, plugin_image
from esc_sr.image.png import colours_of

MAX_PIXELS = 2**29
"""The most pixels, all frames together, that are decoded without being allowed to: 512 x 1024 x 1024."""

_START = 2**16  # bytes, more than any format needs to be told
_LOADERS = {kind: f"{kind}load_buffer" for kind in ("png", "jpeg", "webp", "tiff", "gif")}
_LOADERS["avif"] = "heifload_buffer"
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}
_JPEG_DAMAGE = ("premature end", "bad Huffman", "bad arithmetic", "instead of RST")
_SPACES = {
    "uchar": ("b-w", "srgb"),
    "ushort": ("grey16", "rgb16"),
    "float": ("b-w", "grey16", "scrgb"),
}
_SRGB_CODES = ((1, 1), (1, 2), (1, 6), (1, 13), (2, 2), (2, 13))  # and what is as good as sRGB
_DISPLAY_P3_CODE = (12, 13)


def read_image(
    path: str | Path, *, allow_large: bool = False, notify: Callable[[str], object] = warnings.warn
) -> Picture:
    """Read a picture file of any format in `FORMATS` or `READ_ONLY`; the content counts, not the suffix.

    Raises:
        ImageError: The file cannot be opened, or `decode_image` refuses it.
    """
    return decode_image(read_bytes(path), str(path), allow_large=allow_large, notify=notify)


def read_animation(
    path: str | Path, *, allow_large: bool = False, notify: Callable[[str], object] = warnings.warn
) -> Animation:
    """Read all frames of a picture file; otherwise as `read_image`.

    Raises:
        ImageError: The file cannot be opened, or `decode_animation` refuses it.
    """
    return decode_animation(read_bytes(path), str(path), allow_large=allow_large, notify=notify)


def read_size(path: str | Path) -> tuple[int, int]:
    """Height and width of a picture file in px, upright, without decoding it.

    Raises:
        ImageError: The file cannot be opened, or is no picture.
    """
    return read_header(path).sides


def read_header(path: str | Path) -> Header:
    """What the header of a picture file says, without decoding it.

    Raises:
        ImageError: The file cannot be opened, or is no picture.
    """
    with _opened(path) as (_, header):
        return header


def decode_size(data: memoryview, name: str) -> tuple[int, int]:
    """Height and width of a picture file's bytes in px, upright, without decoding them.

    Raises:
        ImageError: Not a picture in a known format.
    """
    return decode_header(data, name).sides


def decode_header(data: memoryview, name: str) -> Header:
    """What the header of a picture file's bytes says.

    Raises:
        ImageError: Not a picture in a known format.
    """
    if (kind := kind_of(bytes(data[:_START]))) in PLUGIN_KINDS:
        return plugin_header(BytesIO(data), kind, name)
    with _one_line(name):
        return _header(*_open_source(pyvips.Source.new_from_memory(data), data))


def _header(image: Any, kind: str) -> Header:
    """What the header says of a file that libvips has opened."""
    turned = (field(image, "orientation") or 1) >= 5
    frames = (field(image, "n-pages") or 1) if kind in ANIMATED else 1
    height, width = (image.width, image.height) if turned else (image.height, image.width)
    return Header(
        frames, height, width, image.bands * np.dtype(_DTYPES.get(image.format, np.float32)).itemsize
    )


def decode_region(data: memoryview, name: str, top: int, left: int, height: int, width: int) -> Picture:
    """Decode a part of a picture file's bytes, and no more of the rest than the format demands.

    Of a tiled TIFF that is the tiles it touches, of PNG, JPEG and other TIFF the rows above it, of all other
    formats and whatever the EXIF orientation turns, all. Damage outside of what is decoded goes unnoticed.

    Args:
        data: The whole file, for example a memory map of it.
        name: What to call it in errors.
        top: First row of the part, upright, px.
        left: First column.
        height: Of the part, which lies inside the picture.
        width: Likewise.

    Returns:
        Pixels (height, width, C) as `decode_image` has them; no profile, no metadata.

    Raises:
        ImageError: As `decode_image`.
    """
    start = bytes(data[:_START])
    if kind_of(start) in PLUGIN_KINDS:
        return _cut(data, name, top, left, height, width)
    with _one_line(name):
        image, kind = _open_source(pyvips.Source.new_from_memory(data), data)
        if (field(image, "orientation") or 1) != 1:
            return _cut(data, name, top, left, height, width)
        bits = field(image, "heif-bitdepth") or 8
        image, _ = _in_known_colours(image, start, kind, name, _ignore)
        image = _by_its_tags(image, data, kind, _ignore)
        buffer = pyvips.Region.new(image).fetch(left, top, width, height)
    pixels = np.frombuffer(buffer, _DTYPES[image.format]).reshape(height, width, image.bands)
    _require_finite(pixels, name)
    return Picture(_widened(pixels, bits))


def _cut(data: memoryview, name: str, top: int, left: int, height: int, width: int) -> Picture:
    """A part of a picture that is decoded as a whole."""
    pixels = decode_image(bytes(data), name, notify=_ignore).pixels
    return Picture(pixels[top : top + height, left : left + width])


def decode_image(
    data: bytes, name: str, *, allow_large: bool = False, notify: Callable[[str], object] = warnings.warn
) -> Picture:
    """Decode a picture file's bytes, wholly or not at all.

    The EXIF orientation is applied. Palettes and fewer than 8 bits become 8 bits; 9 to 16 bits become 16;
    half precision becomes float32. CMYK becomes sRGB, through its profile where it has one. A profile of
    another kind of picture (RGB for a grey one) is dropped. Of several pages or frames the first is read.

    Args:
        data: The whole file.
        name: What to call it in errors.
        allow_large: Decode even more than `MAX_PIXELS`.
        notify: Is told, in one line, what of the file is converted or left out.

    Returns:
        The picture; its depth is the file's, whatever its values.

    Raises:
        ImageError: Not a picture in a known format, damaged or cut off, too large, or of a kind that cannot
            be kept (samples that are neither 8 or 16 bit integers nor finite floats, more than 4 channels,
            other colour spaces).
    """
    return _decode(data, name, allow_large, notify, every=False).frames[0]


def decode_animation(
    data: bytes, name: str, *, allow_large: bool = False, notify: Callable[[str], object] = warnings.warn
) -> Animation:
    """Decode all frames of a GIF or WebP, each as it is shown; of other files the first, as a single frame.

    Otherwise as `decode_image`.

    Raises:
        ImageError: As there.
    """
    return _decode(data, name, allow_large, notify, every=True)


def read_bytes(path: str | Path) -> bytes:
    """Read a whole file, if it begins as a picture; others may be huge.

    Raises:
        ImageError: It cannot be opened, or is no picture.
    """
    with _opened(path) as (file, _):
        file.seek(0)
        return file.read()


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[tuple[BinaryIO, Header]]:
    """A picture file, and what its header says."""
    try:
        if is_special(Path(path)):
            raise ImageError(f"cannot read {path}: a pipe or device; copy what it gives into a file first")
        with _one_line(str(path)), open(path, "rb") as file:
            start = file.read(_START)
            file.seek(0)
            if (kind := _known_kind(start)) in PLUGIN_KINDS:
                yield file, plugin_header(file, kind, str(path))
                return
            source = pyvips.Source.new_from_descriptor(file.fileno())  # names that are not UTF-8 work, too
            yield file, _header(*_open_source(source, start))
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error


def _decode(
    data: bytes, name: str, allow_large: bool, notify: Callable[[str], object], every: bool
) -> Animation:
    """The first frame of a file, or every one."""
    with _one_line(name):
        kind = _known_kind(data)
        if kind in PLUGIN_KINDS:
            _, height, width, _ = plugin_header(BytesIO(data), kind, name)
            image = pyvips.Image.black(width, height)
        else:
            image = _open(data, kind)
        count = field(image, "n-pages") or 1
        shown = count if every and kind in ANIMATED else 1
        if image.width * image.height * shown > MAX_PIXELS and not allow_large:
            raise ImageError(
                f"cannot read {name}: {shown} x {image.width} x {image.height} pixels, and at most "
                f"{MAX_PIXELS} are decoded; allow large pictures (--allow-large) if you trust the file"
            )
        if fault := fault_of(data, kind):
            raise pyvips.Error(fault, "")
        if shown > 1:
            image = _open(data, kind, n=-1)
        elif kind == "jpeg":
            image = _whole_jpeg(data)
        elif kind in PLUGIN_KINDS:
            image = plugin_image(data, kind, name, notify)
        image, icc = _in_known_colours(image, data, kind, name, notify)
        image = _by_its_tags(image, data, kind, notify)
        pixels = _pixels(image, shown, name)
        delays, loop = list(field(image, "delay") or []), field(image, "loop") or 0
        about, lost = metadata_of(image, data, kind), not_kept(image, data, kind)
    if count > shown:
        notify(f"{name}: the first of {count} pages is read")
    elif hidden_frames(data, kind):
        notify(f"{name}: the first frame of the animation is read")
    for line in lost:
        notify(line)
    bits = field(image, "heif-bitdepth") or 8
    pixels = [_widened(page, bits) for page in pixels]
    first = Picture(pixels[0], icc=icc, bits=bits if 8 < bits < 16 else None, **about)
    frames = [replace(first, pixels=page) for page in pixels]
    return Animation(frames, (delays + [100] * shown)[:shown], loop)


@contextlib.contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn what libvips says of a damaged file, or of one that it does not read, into one error."""
    try:
        with libvips():
            yield
    except pyvips.Error as error:
        damaged = f"not a complete PNG, JPEG, WebP, TIFF, AVIF or GIF picture ({reason(error)})"
        raise ImageError(f"cannot read {name}: {not_read(error) or damaged}") from error


def _known_kind(data: bytes | memoryview) -> str:
    """The format of a file, by its bytes or as many of the first as are at hand."""
    if not data:
        raise pyvips.Error("the file is empty", "")
    kind = kind_of(bytes(data[:_START]))
    if kind is None or is_too_large(data, kind):
        raise pyvips.Error(f"larger than {kind.upper()} can be" if kind else "another kind of file", "")
    if kind == "tiff" and is_raw(data):
        raise pyvips.Error(f"RAW; {what_first('RAW')}", "")
    if kind == "tiff" and (colours := foreign_colours(data)):
        raise pyvips.Error(colours, "")
    return kind


def _open_source(source: Any, data: bytes | memoryview) -> tuple[Any, str]:
    """A libvips image of a file that is read as far as needed, and its kind, by `data` as `_known_kind`."""
    kind = _known_kind(data)
    loader = _LOADERS[kind].replace("_buffer", "_source")
    return pyvips.Operation.call(loader, source, access="sequential", fail_on="error"), kind


def _open(data: bytes, kind: str, fail_on: str | None = None, **options: int) -> Any:
    """A libvips image, not yet decoded; damage shows later, on decoding."""
    fail_on = fail_on or ("warning" if kind == "tiff" and warns_of_damage(data) else "error")
    return pyvips.Operation.call(_LOADERS[kind], data, access="sequential", fail_on=fail_on, **options)


def _whole_jpeg(data: bytes) -> Any:
    """A decoded JPEG; libjpeg only warns where data end early, and makes the rest grey."""
    try:
        return _open(data, "jpeg", fail_on="warning").copy_memory()
    except pyvips.Error as error:
        if any(sign in str(error) for sign in _JPEG_DAMAGE):
            raise
    return _open(data, "jpeg")


def _in_known_colours(
    image: Any, data: bytes, kind: str, name: str, notify: Callable[[str], object]
) -> tuple[Any, bytes | None]:
    """The image in grey or RGB, and its profile."""
    icc = field(image, "icc-profile-data")
    if image.interpretation == "cmyk" and image.format in ("uchar", "ushort"):
        notify(f"CMYK became sRGB, through {'its own' if of_cmyk(icc) else 'a common'} profile")
        image, icc = cmyk_to_srgb(image), None
    if image.interpretation not in _SPACES.get(image.format, ()) or image.bands > 4:
        raise ImageError(
            f"cannot read {name}: {image.bands} channels of {image.interpretation} {image.format}; "
            "convert it to 8 or 16 bit or float grey or RGB first"
        )
    code = colour_code(data, kind)
    if icc is None and code == _DISPLAY_P3_CODE:
        icc = pyvips.Image.profile_load("p3")
    elif icc is None and code is not None and code not in _SRGB_CODES:
        notify(f"{name}: its colours, code {code[0]}/{code[1]} of ITU-T H.273, are taken for sRGB")
    elif icc is None and code is None and kind == "png":
        icc = colours_of(data, grey=image.bands < 3)
    return image, fitting(icc, image.bands)


def _by_its_tags(image: Any, data: bytes | memoryview, kind: str, notify: Callable[[str], object]) -> Any:
    """The image without a channel that is no alpha by the tags of a TIFF: a mask, or what libvips added."""
    if kind != "tiff" or image.bands not in (2, 4):
        return image
    extra = tiff_numbers(data, EXTRA_SAMPLES)[:1]
    if extra == (0,):
        notify("a channel that is not said to be transparency is left out")
    elif extra or not is_ycbcr(data):
        return image
    return image.extract_band(0, n=image.bands - 1)


def _pixels(image: Any, count: int, name: str) -> list[np.ndarray]:
    """Decode: the upright pixels (H, W, C) of so many frames, which lie below each other."""
    turned = (field(image, "orientation") or 1) != 1
    if turned or count > 1:
        image = image.copy_memory()
    height = image.height // count
    pages = [image.crop(0, height * place, image.width, height) for place in range(count)]
    pages = [page.autorot() if turned else page for page in pages]
    pixels = [np.asarray(page.numpy()).reshape(page.height, page.width, page.bands) for page in pages]
    _require_finite(pixels[0], name)
    return pixels


def _require_finite(pixels: np.ndarray, name: str) -> None:
    """Refuse NaN and infinity, of which no network makes anything."""
    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        raise ImageError(f"cannot read {name}: holds NaN or infinite values; replace them first")


def _widened(pixels: np.ndarray, bits: int) -> np.ndarray:
    """AVIF of 10 or 12 bits as 16: libvips shifts them up; repeating the top bits makes white 65535."""
    return pixels | (pixels >> bits) if bits > 8 else pixels


def _ignore(text: str) -> None:
    """A `notify` for whoever wants the pixels only."""


def fitting(profile: bytes | None, bands: int) -> bytes | None:
    """The ICC profile if it is one for so many channels."""
    space = b"GRAY" if bands < 3 else b"RGB "
    return profile if profile and profile[16:20] == space else None
