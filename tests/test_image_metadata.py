"""What a picture file says beside its pixels: orientation, EXIF, XMP, resolution and colour profiles."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from esc_sr.image import Picture, decode_image, format_of, read_image, write_image
from pictures import SRGB, SUFFIXES, noise, pillow, silent, smooth, view

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'


def grey_profile() -> bytes:
    """The smallest grey ICC profile: gamma 1.0, D50."""
    tags = [
        (b"desc", b"desc" + bytes(4) + struct.pack(">I", 2) + b"g\0" + bytes(78)),
        (b"wtpt", b"XYZ " + bytes(4) + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)),
        (b"kTRC", b"curv" + bytes(4) + struct.pack(">I", 0)),
    ]
    offset, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags:
        table += name + struct.pack(">2I", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", offset + len(body), bytes(4), 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    header += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    header += struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D) + bytes(48)
    return header + table + body


def exif(orientation: int = 1, thumbnail: bytes = b"") -> bytes:
    """An EXIF block: orientation, maker and resolution, and on wish a thumbnail in IFD1."""
    entries = [(0x10F, 2, 4, b"Lens"[:3] + b"\0"), (0x112, 3, 1, struct.pack("<HH", orientation, 0))]
    ifd0 = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    if not thumbnail:
        return b"Exif\0\0II*\0" + struct.pack("<I", 8) + ifd0 + bytes(4)
    start = 8 + len(ifd0) + 4
    ifd1 = struct.pack("<H", 3) + struct.pack("<HHII", 0x103, 3, 1, 6)
    ifd1 += struct.pack("<HHII", 0x201, 4, 1, start + 42) + struct.pack("<HHII", 0x202, 4, 1, len(thumbnail))
    return (
        b"Exif\0\0II*\0"
        + struct.pack("<I", 8)
        + ifd0
        + struct.pack("<I", start)
        + ifd1
        + bytes(4)
        + thumbnail
    )


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_then_one(tmp_path: Path, orientation: int) -> None:
    stored = Image.fromarray(noise(5, 9, 3).repeat(8, 0).repeat(8, 1))
    expected = UPRIGHT[orientation](np.asarray(stored)).astype(int)
    tag = {ExifTags.Base.Orientation: orientation}
    for format, options in (
        ("PNG", {"exif": exif(orientation)}),
        ("JPEG", {"exif": exif(orientation), "quality": 100, "subsampling": 0}),
        ("WEBP", {"exif": exif(orientation)[6:], "lossless": True}),
        ("TIFF", {"tiffinfo": tag}),
    ):
        picture = decode_image(pillow(stored, format, **options), "a")
        assert picture.pixels.shape == expected.shape
        assert np.abs(picture.pixels - expected).max() <= (6 if format == "JPEG" else 0)
        for suffix in SUFFIXES:
            write_image(picture, tmp_path / f"a{suffix}", overwrite=True, notify=silent)
            assert view(tmp_path / f"a{suffix}").getexif().get(ExifTags.Base.Orientation, 1) == 1
            assert read_image(tmp_path / f"a{suffix}").pixels.shape == expected.shape


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
def test_metadata_is_carried_over(tmp_path: Path, suffix: str, source: str) -> None:
    options: dict[str, Any] = {"exif": exif(6)} if source != "TIFF" else {"tiffinfo": {700: XMP}}
    data = pillow(Image.fromarray(noise(8, 9, 3)), source, icc_profile=SRGB, xmp=XMP, **options)
    picture = decode_image(data, "a")
    assert picture.icc == SRGB
    big = Picture(noise(40, 30, 3), icc=picture.icc, exif=picture.exif, xmp=picture.xmp, dpi=picture.dpi)
    write_image(big, tmp_path / f"a{suffix}", notify=silent)
    back = read_image(tmp_path / f"a{suffix}")
    assert back.icc == SRGB
    if source not in ("PNG",):  # Pillow writes no XMP into PNG
        assert back.xmp is not None
        assert b'tiff:Orientation="1"' in back.xmp
    if "TIFF" not in (source, format_of(f"a{suffix}").upper()):
        tags = view(tmp_path / f"a{suffix}").getexif()
        assert tags[ExifTags.Base.Make] == "Len"
        assert tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] == 30


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_stale_thumbnail_is_not_carried_over(tmp_path: Path, suffix: str) -> None:
    thumbnail = pillow(Image.new("RGB", (16, 12), "red"), "JPEG")
    data = pillow(Image.fromarray(noise(8, 9, 3)), "JPEG", exif=exif(6, thumbnail))
    assert data.count(b"\xff\xd8\xff") == 2
    write_image(decode_image(data, "a"), tmp_path / f"a{suffix}", notify=silent)
    assert (tmp_path / f"a{suffix}").read_bytes().count(b"\xff\xd8\xff") == (1 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_resolution_is_carried_over_and_nothing_is_made_up(tmp_path: Path, suffix: str) -> None:
    for dpi in (None, (300.0, 300.0)):
        write_image(Picture(smooth(3), dpi=dpi), tmp_path / f"a{suffix}", overwrite=True)
        back = read_image(tmp_path / f"a{suffix}")
        assert back.dpi == (dpi and pytest.approx(dpi, abs=0.01))
    write_image(Picture(smooth(3)), tmp_path / f"a{suffix}", overwrite=True)
    assert read_image(tmp_path / f"a{suffix}").exif is None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_profiles_of_another_colour_space_are_not_written(tmp_path: Path, suffix: str) -> None:
    grey = grey_profile()
    write_image(Picture(smooth(1), icc=SRGB), tmp_path / f"a{suffix}")
    assert view(tmp_path / f"a{suffix}").info.get("icc_profile") is None
    write_image(Picture(smooth(3), icc=grey), tmp_path / f"b{suffix}")
    assert view(tmp_path / f"b{suffix}").info.get("icc_profile") is None
    write_image(Picture(smooth(1), icc=grey), tmp_path / f"c{suffix}")
    back = read_image(tmp_path / f"c{suffix}")
    if suffix in (".webp", ".avif"):  # no grey there: linear light became sRGB
        assert back.icc is not None
        assert back.icc[16:20] == b"RGB "
        half = np.abs(smooth(1)[0, :, 0].astype(int) - 128).argmin()
        assert abs(int(back.pixels[18, half].mean()) - 188) <= 4
    else:
        assert back.icc == grey


@pytest.mark.parametrize(
    "block", [b"", b"x", b"Exif\0\0", b"Exif\0\0\1", b"Exif\0\0II*\0", b"Exif\0\0" + b"junk" * 9]
)
def test_a_broken_exif_block_does_not_cost_the_picture(tmp_path: Path, block: bytes) -> None:
    for format in ("JPEG", "PNG", "WEBP"):
        picture = decode_image(pillow(Image.fromarray(noise(8, 9, 3)), format, exif=block), "a")
        for suffix in SUFFIXES:
            write_image(picture, tmp_path / f"a{suffix}", overwrite=True, notify=silent)
