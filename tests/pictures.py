"""Pictures and profiles for the tests of reading and writing files."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

SUFFIXES = [".png", ".jpg", ".webp", ".tif", ".avif"]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def smooth(bands: int, dtype: type = np.uint8, height: int = 37, width: int = 50) -> np.ndarray:
    """A gradient that lossy formats keep well, different in each channel, full range."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    channels = [y, x, (x + y) / 2, 1 - x][-bands:] if bands != 2 else [x, 1 - y]
    top = np.iinfo(dtype).max
    return np.stack([np.rint(channel * top) for channel in channels], axis=-1).astype(dtype)


def silent(text: str) -> None:
    """A `notify` for what another test is about."""


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def pillow(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def view(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))
