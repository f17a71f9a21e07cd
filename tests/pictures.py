"""Pictures and profiles for the tests of reading and writing files."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

SUFFIXES = [".png", ".jpg", ".webp", ".tif", ".avif"]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def icc_profile(space: bytes, gamma: bytes, **colorants: tuple[float, float, float]) -> bytes:
    """A small ICC profile: D50, one curve for all, and the XYZ of r, g and b if it has these."""
    curve = b"curv" + bytes(4) + gamma
    points = {"wtpt": (0.9642, 1.0, 0.8249), **{f"{name}XYZ": point for name, point in colorants.items()}}
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"g\0" + bytes(78)}
    for name, point in points.items():
        fixed = struct.pack(">3i", *(round(65536 * value) for value in point))
        tags[name.encode()] = b"XYZ " + bytes(4) + fixed
    tags |= {f"{name}TRC".encode(): curve for name in colorants or "k"}
    offset, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        table += tag + struct.pack(">2I", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", offset + len(body), bytes(4), 0x02400000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    header += struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D) + bytes(48)
    return header + table + body


LINEAR_GREY = icc_profile(b"GRAY", struct.pack(">I", 0))
ADOBE_RGB = icc_profile(
    b"RGB ",
    struct.pack(">IH", 1, 563),  # gamma 563/256
    r=(0.60974, 0.31111, 0.01947),
    g=(0.20528, 0.62567, 0.06087),
    b=(0.14919, 0.06322, 0.74457),
)


def smooth(bands: int, dtype: type = np.uint8, height: int = 37, width: int = 50) -> np.ndarray:
    """A gradient that lossy formats keep well, different in each channel, full range."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    channels = [y, x, (x + y) / 2, 1 - x][-bands:] if bands != 2 else [x, 1 - y]
    top = np.iinfo(dtype).max
    return np.stack([np.rint(channel * top) for channel in channels], axis=-1).astype(dtype)


def on_disk(place: object) -> Path:
    """The path that a place is, which is none in a store."""
    assert isinstance(place, Path)
    return place


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
