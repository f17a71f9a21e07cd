"""Picture files out: whole, or not at all."""

import re
import warnings
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import numpy as np
import pyvips

from esc_sr.errors import ImageError, require
from esc_sr.image.metadata import CANNOT_HOLD, set_metadata
from esc_sr.image.native import colour_space, libvips, reason, wrapped
from esc_sr.image.picture import ANIMATED, MAX_SIDE, Animation, Picture, format_of
from esc_sr.image.png import PNGFilter
from esc_sr.image.read import fitting
from esc_sr.machine.claim import Claim

SUBSAMPLINGS = {"auto": "off", "4:4:4": "off", "4:2:0": "on"}
_MOST_XMP = 60_000  # that libvips writes into a JPEG, of whose segments it fills one
_BACKGROUNDS = {"white": "#ffffff", "black": "#000000"}
_QUALITY = {"jpeg": 95, "webp": 95, "avif": 90}
_SAVE: dict[str, dict[str, Any]] = {
    "png": {"compression": 6},
    "jpeg": {"optimize_coding": True},
    "webp": {"smart_subsample": True},
    "tiff": {"compression": "deflate"},
    "avif": {"effort": 2, "compression": "av1"},
    "gif": {"keep_duplicate_frames": True},
}


@dataclass(frozen=True)
class Encoding:
    """How to encode where a format leaves a choice; what a format does not know, it ignores.

    Attributes:
        quality: 1..100, of JPEG, WebP and AVIF; None is 95, 95 and 90.
        subsampling: Of the colours in JPEG and AVIF: "4:4:4", which "auto" is as well, or "4:2:0". WebP has
            4:2:0 only.
        lossless: WebP and AVIF keep every value; of 16 bits WebP still holds 8 and AVIF 12.
        background: What shows through in a format without transparency: "white", "black" or "#rrggbb", in
            the picture's own colour space.
        strip_metadata: Leave out EXIF, with it the resolution in JPEG and WebP, XMP, IPTC and comments; the
            ICC profile stays.

    Raises:
        UsageError: A value is none of these.
    """

    quality: int | None = None
    subsampling: str = "auto"
    lossless: bool = False
    background: str = "white"
    strip_metadata: bool = False

    def __post_init__(self) -> None:
        colour = _BACKGROUNDS.get(self.background, self.background)
        rules = {
            "quality": (self.quality in (None, *range(1, 101)), "a whole number from 1 to 100"),
            "subsampling": (self.subsampling in SUBSAMPLINGS, f"one of {', '.join(SUBSAMPLINGS)}"),
            "background": (bool(re.fullmatch(r"#[0-9a-fA-F]{6}", colour)), "white, black or #rrggbb"),
        }
        require(self, rules)

    @property
    def background_rgb(self) -> list[int]:
        """Red, green and blue of the background, 0..255."""
        return list(bytes.fromhex(_BACKGROUNDS.get(self.background, self.background)[1:]))


def write_image(
    picture: Picture | Animation,
    path: str | Path,
    *,
    format: str | None = None,
    overwrite: bool = False,
    encoding: Encoding = Encoding(),
    notify: Callable[[str], object] = warnings.warn,
    claim: Claim | None = None,
) -> None:
    """Write a picture file, whole or not at all: encoded beside its place, then moved there.

    TIFF (deflate) keeps every value, PNG all but floats, which become 16 bits. JPEG, WebP and GIF hold 8
    bits, AVIF 8 for 8 and otherwise as many as the picture had, or 10: values are rounded to that, floats
    clipped to 0..1. JPEG has no alpha: the picture is laid on a background. WebP, AVIF and GIF have no grey:
    it becomes RGB, through its profile where it has one. GIF has 256 colours a frame, and pixels are visible
    or not; it has no profile either: the colours become sRGB. Profile, EXIF, XMP, IPTC and resolution are
    written along, except a profile of another kind of picture, a thumbnail, and what a format cannot hold.

    Args:
        picture: What to write; in formats that are not `ANIMATED`, of several frames the first.
        path: The file; its folder must exist.
        format: A value of `FORMATS`, or a suffix without its dot; by default the path's suffix decides.
        overwrite: Replace a file of that name. Otherwise such a file is an error and stays as it is.
        encoding: What the format leaves open.
        notify: Is told, in one line, what of the picture or of the encoding the format does not hold.
        claim: The claim to the file, if the caller has it already; it stays open.

    Raises:
        ImageError: No such format, too large for the format, the file exists or is being written by another
            process, or the disk refuses (folder missing, no permission, full).
    """
    path = Path(path)
    kind = format_of(path if format is None else f"{path.stem}.{format}")
    animation = picture if isinstance(picture, Animation) else Animation([picture], [], 0)
    height, width, _ = animation.frames[0].pixels.shape
    limit = MAX_SIDE.get(kind)
    if limit and max(height, width) > limit:
        raise ImageError(
            f"cannot write {path}: {width} x {height} pixels, but {kind} holds at most {limit} a side; "
            "choose png or tiff"
        )
    try:
        if path.exists() and not path.is_file():
            raise ImageError(f"cannot write {path}: not a regular file")
        with libvips(), nullcontext(claim) if claim else closing(Claim(path)) as mine:
            image = _prepare(animation, kind, encoding, notify)
            with open(mine.part.fileno(), "wb", closefd=False) as file:
                _save(image, kind, file, encoding, animation.frames[0])
            mine.publish(overwrite)
    except FileExistsError as error:
        raise ImageError(
            f"cannot write {path}: the file exists; allow overwriting or name another"
        ) from error
    except (OSError, pyvips.Error) as error:
        raise ImageError(f"cannot write {path}: {reason(error)}") from error


def encode_image(
    picture: Animation, kind: str, encoding: Encoding, notify: Callable[[str], object] = warnings.warn
) -> bytes:
    """Encode as a value of `FORMATS`; otherwise as `write_image`.

    Raises:
        ImageError: Too large for the format.
    """
    try:
        with libvips(), TemporaryFile() as file:
            image = _prepare(picture, kind, encoding, notify)
            _save(image, kind, file, encoding, picture.frames[0])
            file.seek(0)
            return file.read()
    except (OSError, pyvips.Error) as error:
        raise ImageError(f"cannot encode {kind}: {reason(error)}") from error


def _prepare(animation: Animation, kind: str, encoding: Encoding, notify: Callable[[str], object]) -> Any:
    """The libvips image that the format can hold, with its metadata; frames lie below each other."""
    picture, frames = animation.frames[0], animation.frames
    if encoding.strip_metadata:
        picture = replace(picture, exif=None, xmp=None, iptc=None, comments=None)
    for line in _losses(animation, picture, kind, encoding):
        notify(line)
    if len(frames) > 1 and kind in ANIMATED:
        pixels = np.concatenate([frame.pixels for frame in frames])
    else:
        pixels = np.ascontiguousarray(picture.pixels)
    image = _in_colours_of(wrapped(pixels, fitting(picture.icc, pixels.shape[-1])), kind)
    image = _in_depth_of(image, kind, _bits_held("avif", picture, encoding))
    if kind == "jpeg" and image.hasalpha():
        background = encoding.background_rgb
        if len(set(background)) > 1 and image.bands < 3:
            image = _coloured(image)
        background = background if image.bands > 2 else background[:1]
        image = image.cast("float").flatten(background=background, max_alpha=255).rint().cast("uchar")
    image = set_metadata(image, picture, kind)
    if len(frames) > 1:
        image.set_type(pyvips.GValue.gint_type, "page-height", len(frames[0].pixels))
        image.set_type(pyvips.GValue.array_int_type, "delay", animation.delays)
        image.set_type(pyvips.GValue.gint_type, "loop", animation.loop)
    return image


def _losses(animation: Animation, picture: Picture, kind: str, encoding: Encoding) -> list[str]:
    """One line for each thing that the format does not hold and a user may miss."""
    pixels, lines = picture.pixels, []
    if len(animation.frames) > 1 and kind not in ANIMATED:
        lines.append(f"{kind} holds the first frame only; gif and webp hold animations")
    lines += _metadata_losses(picture, kind)
    if kind == "gif":
        lines.append("gif holds 256 colours and no half-transparent pixels; png and webp do")
    if kind == "jpeg" and pixels.shape[2] in (2, 4) and (pixels[:, :, -1] < _peak(pixels)).any():
        lines.append(f"jpeg holds no transparency: laid on {encoding.background}")
    held = _bits_held(kind, picture, encoding)
    if pixels.dtype == np.float32 and kind != "tiff":
        lines.append(f"{kind} holds {held} bits a channel and no floats: rounded; tiff keeps them")
    elif pixels.dtype == np.uint16 and held < (picture.bits or 16):
        lines.append(f"{kind} holds {held} of the picture's {picture.bits or 16} bits; png and tiff keep all")
    if pixels.dtype == np.float32 and kind != "tiff" and (pixels.min() < 0 or pixels.max() > 1):
        lines.append(f"{kind} holds no values outside 0..1: clipped; tiff keeps them")
    if encoding.lossless and kind == "jpeg":
        lines.append("jpeg is never lossless; webp and avif can be")
    if kind == "webp" and encoding.subsampling == "4:4:4" and not encoding.lossless:
        lines.append("webp is always 4:2:0 unless it is lossless")
    return lines


def _metadata_losses(picture: Picture, kind: str) -> list[str]:
    """Likewise, of what is said about the picture."""
    lines = []
    if missing := [name for name in CANNOT_HOLD.get(kind, ()) if getattr(picture, name.lower())]:
        lines.append(f"{' and '.join(missing)} cannot be written into {kind}")
    if kind == "jpeg" and len(picture.xmp or b"") > _MOST_XMP:
        lines.append(f"jpeg holds {_MOST_XMP} bytes of XMP, and the picture has more: left out")
    return lines


def _bits_held(kind: str, picture: Picture, encoding: Encoding) -> int:
    """How many bits a channel the format holds of a picture with more than 8."""
    if kind == "avif":
        return picture.bits or (12 if encoding.lossless else 10)
    return 16 if kind in ("png", "tiff") else 8


def _peak(pixels: np.ndarray) -> float:
    """The value of white, and of an opaque pixel."""
    return 1 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)


def _in_colours_of(image: Any, kind: str) -> Any:
    """Integers where the format has no floats; sRGB where it has no grey, or no profile, to keep one with."""
    if image.format == "float" and kind != "tiff":
        image = (image * 65535).rint().cast("ushort").copy(interpretation=colour_space("ushort", image.bands))
    if image.get_typeof("icc-profile-data"):
        if kind == "gif" or (image.bands < 3 and kind in ("webp", "avif")):
            image = _coloured(image)
    return image


def _coloured(image: Any) -> Any:
    """Integers as sRGB, through their profile where they have one."""
    if not image.get_typeof("icc-profile-data"):
        return image.colourspace("srgb")
    return image.icc_transform("srgb", embedded=True, depth=16 if image.format == "ushort" else 8)


def _in_depth_of(image: Any, kind: str, avif_bits: int) -> Any:
    """The image with as many bits as the format holds; in AVIF they are the upper ones of 16."""
    if image.format != "ushort" or kind in ("png", "tiff"):
        return image
    if kind == "avif":
        levels = (image * ((2**avif_bits - 1) / 65535)).rint()
        image = (levels * 2 ** (16 - avif_bits)).cast("ushort").copy(interpretation=image.interpretation)
        image.set_type(pyvips.GValue.gint_type, "bits-per-sample", avif_bits)
        return image
    return (image / 257).rint().cast("uchar").copy(interpretation=colour_space("uchar", image.bands))


def _save(image: Any, kind: str, file: BinaryIO, encoding: Encoding, picture: Picture) -> None:
    """Encode into an open file; `picture` is the first frame."""
    options = _SAVE[kind] | _choices(image, kind, encoding)
    keep = pyvips.enums.ForeignKeep
    # libvips makes up an EXIF block, if only for the resolution, unless told not to.
    unwanted = encoding.strip_metadata or round(image.xres * 25.4) == 72
    options["keep"] = keep.ALL if image.get_typeof("exif-data") or not unwanted else keep.ALL & ~keep.EXIF
    saver = f"{'heif' if kind == 'avif' else kind}save_target"
    comments = b"" if encoding.strip_metadata else picture.comments or b""
    if kind != "png" or (picture.dpi and not comments):
        pyvips.Operation.call(saver, image, pyvips.Target.new_to_descriptor(file.fileno()), **options)
        return
    png = PNGFilter(file, picture.dpi is not None, comments)
    try:
        pyvips.Operation.call(saver, image, png.target, **options)
    except pyvips.Error as error:
        raise png.error or error from error


def _choices(image: Any, kind: str, encoding: Encoding) -> dict[str, Any]:
    """The options that depend on the picture or on the user."""
    if kind == "tiff":
        predictor = "float" if image.format == "float" else "horizontal"
        return {"predictor": predictor, "bigtiff": image.width * image.height * image.bands > 2**30}
    if kind not in _QUALITY:
        return {}
    options: dict[str, Any] = {"Q": encoding.quality or _QUALITY[kind]}
    if kind != "webp":
        options["subsample_mode"] = SUBSAMPLINGS[encoding.subsampling]
    if kind == "avif":
        options["bitdepth"] = image.get("bits-per-sample") if image.format == "ushort" else 8
    if encoding.lossless and kind == "webp":
        options |= {"lossless": True, "exact": True}
    elif encoding.lossless and kind == "avif":
        options |= {"lossless": True, "subsample_mode": "off"}
    return options
