"""What a picture is: pixels, and what the file says about them."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esc_sr.errors import ImageError, UsageError

FORMATS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".avif": "avif",
    ".gif": "gif",
}
"""What is read and written: suffix (lower case) to format."""

READ_ONLY = {
    ".bmp": "bmp",
    ".dib": "bmp",
    ".ico": "ico",
    ".tga": "tga",
    ".pbm": "ppm",
    ".pgm": "ppm",
    ".ppm": "ppm",
    ".pnm": "ppm",
    ".jp2": "jp2",
    ".j2k": "jp2",
    ".jpx": "jp2",
    ".heic": "heic",
    ".heif": "heic",
    ".hif": "heic",
}
"""What is read and not written, likewise; HEIC where pi-heif is installed."""

ANIMATED = ("gif", "webp")
"""The formats whose animations are read and written, frame by frame."""

MAX_SIDE = {"jpeg": 65_500, "webp": 16_383, "avif": 16_384, "gif": 65_535}
"""The longest side, in pixels, that these formats hold; the others hold any."""


class Header(NamedTuple):
    """What a picture file says of itself before it is decoded.

    Attributes:
        frames: Those that are shown.
        height: Of each in px, upright.
        width: Likewise.
        pixel_bytes: Bytes of a decoded pixel, at most.
    """

    frames: int
    height: int
    width: int
    pixel_bytes: int

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels as stored in a file, upright, with what the file says about them.

    Attributes:
        pixels: (H, W, C) uint8, uint16, full range, or float32, where 0..1 is black to white and any other
            value is kept; C is 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha. The colours are not multiplied
            by alpha.
        icc: ICC profile of the pixels; None means sRGB.
        exif: EXIF block; its orientation and sizes no longer hold and are put right in writing.
        xmp: XMP packet; as `exif`.
        iptc: IPTC records (IIM).
        comments: Chunks of text of a PNG.
        dpi: Horizontal and vertical resolution in pixels per inch; None is unknown, in a PNG unsaid, else 72.
        bits: How many bits of 16 the file had, where it is not all of them: 10 or 12.

    Raises:
        UsageError: The pixels have another shape or type.
    """

    pixels: np.ndarray
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comments: bytes | None = None
    dpi: tuple[float, float] | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or 0 in shape or shape[2] > 4 or dtype not in (np.uint8, np.uint16, np.float32):
            raise UsageError(f"a picture is uint8 or uint16 or float32 (H, W, 1 to 4), not {dtype} {shape}")


@dataclass(frozen=True, eq=False)
class Animation:
    """Pictures of one size and kind, shown one after the other; a single one is a still picture.

    Attributes:
        frames: At least one; the first has the profile and the metadata.
        delays: How long each is shown, in milliseconds.
        loop: How often all are shown; 0 is for ever.
    """

    frames: list[Picture]
    delays: list[int]
    loop: int


def to_rgb8(picture: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, 0..255, of any picture: grey is repeated, alpha dropped, more bits rounded to 8."""
    pixels = picture.pixels
    channels = pixels.shape[2]
    rgb = pixels[:, :, :3] if channels >= 3 else pixels[:, :, :1].repeat(3, axis=2)
    if rgb.dtype == np.uint16:
        rgb = (rgb.astype(np.uint32) + 128) // 257
    elif rgb.dtype == np.float32:
        rgb = np.rint(rgb.clip(0, 1) * 255)
    return np.ascontiguousarray(rgb, dtype=np.uint8)


def format_of(path: str | Path) -> str:
    """Name the format that a file name's suffix stands for: a value of `FORMATS`.

    Raises:
        ImageError: No such suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ImageError(f"{path}: no picture format ends in {suffix!r}; use {', '.join(FORMATS)}")
    return FORMATS[suffix]
