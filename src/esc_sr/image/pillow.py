"""PIL images to arrays and back; Pillow is imported only where one is made or a file needs it."""

from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from esc_sr.errors import UsageError
from esc_sr.image.native import cmyk_to_srgb, wrapped

if TYPE_CHECKING:
    import PIL.Image

_CONVERTED = {"1": "L", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}
_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}
_KEPT = ("icc_profile", "exif", "xmp", "dpi")  # of `info`: what holds for the larger picture, too
_STILL = ("MPO", "PSD")  # formats with further pictures or layers beside the one that is shown


def is_pillow(image: object) -> "TypeGuard[PIL.Image.Image]":
    """Whether it is a PIL image, found out without importing Pillow."""
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(image).__mro__)


def from_pillow(image: "PIL.Image.Image") -> np.ndarray:
    """Take the pixels of a PIL image.

    Args:
        image: Of mode L, LA, RGB, RGBA, I;16, I;16L, I;16B or I;16N; 1, P, PA, La and RGBa are converted to
            these, one with a transparent colour to one with alpha, and CMYK to sRGB, through its profile
            where it has one.

    Returns:
        (H, W) or (H, W, C), uint8 or uint16.

    Raises:
        UsageError: It is of another mode, or has several frames.
    """
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _STILL:
        raise UsageError(
            f"cannot upscale a PIL image of {frames} frames; pass a copy of each (image.seek(n), "
            "image.copy()), or let esc-sr upscale do the file"
        )
    mode = _CONVERTED.get(image.mode, image.mode)
    if "transparency" in image.info:
        mode = _WITH_ALPHA.get(mode, mode)
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if mode == "CMYK":
        inks = wrapped(np.asarray(image), image.info.get("icc_profile")).copy(interpretation="cmyk")
        return np.asarray(cmyk_to_srgb(inks).numpy())
    if mode not in ("L", "LA", "RGB", "RGBA"):
        raise UsageError(
            f"cannot upscale a PIL image of mode {mode}; convert it to L, LA, RGB, RGBA, CMYK or I;16"
        )
    return np.asarray(image if mode == image.mode else image.convert(mode))


def to_pillow(pixels: np.ndarray, like: "PIL.Image.Image") -> "PIL.Image.Image":
    """Make a PIL image of pixels as `from_pillow` gives them, with profile and metadata of another one."""
    from PIL import Image

    image = Image.fromarray(pixels)
    kept: dict[Any, Any] = {key: like.info[key] for key in _KEPT if key in like.info}
    if like.mode == "CMYK":
        kept.pop("icc_profile", None)
    image.info.update(kept)
    return image
