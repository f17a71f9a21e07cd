"""Downloads that broke off: of full length, with zeros in place of the end."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

from esc_sr.errors import ImageError
from esc_sr.image import decode_animation, decode_image, read_image
from esc_sr.image.containers import tiff_numbers
from pictures import noise, pillow, silent

RGB, RGBA = Image.fromarray(noise(60, 70, 3)), Image.fromarray(noise(60, 70, 4))
TIFF = ("deflate", "lzw", "packbits", "jpeg", "webp", "ccittfax4")


def refused(data: bytes, match: str = "^cannot read a: .*cut off") -> None:
    with pytest.raises(ImageError, match=match) as caught:
        decode_animation(data, "a", notify=silent)
    assert str(caught.value).isprintable()


def tiff(compression: str, **options: Any) -> bytes:
    pixels = noise(200, 130, 3) // 32 * 32
    image = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
    if compression == "ccittfax4":
        image, options = image.colourspace("b-w") > 128, {"bitdepth": 1, **options}
    return bytes(image.tiffsave_buffer(compression=compression, **options))


def last_part(data: bytes) -> tuple[int, int]:
    """Where the last strip or tile of a TIFF begins and ends."""
    tags = (324, 325) if tiff_numbers(data, 324) else (273, 279)
    start, size = max(zip(*(tiff_numbers(data, tag) for tag in tags), strict=True))
    return start, start + size


@pytest.mark.parametrize(
    "made",
    [
        lambda: pillow(RGB, "PNG"),
        lambda: pillow(RGB, "JPEG"),
        lambda: pillow(RGB, "JPEG", progressive=True),
        lambda: pillow(RGB, "WEBP"),
        lambda: pillow(RGBA, "WEBP"),
        lambda: pillow(RGB, "WEBP", lossless=True),
        lambda: pillow(RGB, "WEBP", save_all=True, append_images=[RGBA, RGB]),
        lambda: pillow(RGB, "GIF"),
        lambda: pillow(RGB, "AVIF"),
    ],
)
def test_zeros_in_place_of_the_end(made: Callable[[], bytes]) -> None:
    data = made()
    for part in range(2, 20):
        keep = len(data) * part // 20
        refused(data[:keep] + bytes(len(data) - keep), "^cannot read a: not a complete")


@pytest.mark.parametrize("tiles", [{}, {"tile": True, "tile_width": 64, "tile_height": 64}])
@pytest.mark.parametrize("compression", TIFF)
@pytest.mark.parametrize("bigtiff", [False, True])
def test_zeros_in_place_of_the_end_of_a_tiff(compression: str, tiles: dict[str, Any], bigtiff: bool) -> None:
    data = tiff(compression, bigtiff=bigtiff, **tiles)
    assert decode_image(data, "a").pixels.shape[:2] == (200, 130)
    start, end = last_part(data)
    for keep in range(start, end - 140, 50):
        refused(data[:keep] + bytes(end - keep) + data[end:], "^cannot read a: not a complete")


def test_zeros_in_place_of_the_tables_of_a_tiff() -> None:
    data = tiff("jpeg", tile=True, tile_width=64, tile_height=64)
    place = data.rindex(b"\xff\xd9")  # the tables come last
    assert place > last_part(data)[1]
    refused(data[: place - 100] + bytes(102) + data[place + 2 :])


def test_a_tile_that_is_damaged() -> None:
    data = tiff("deflate", tile=True, tile_width=64, tile_height=64)
    start, _ = last_part(data)
    refused(data[:start] + b"no" + data[start + 2 :], "not a complete")


@pytest.mark.parametrize(("tag", "value"), [(256, 65535), (257, 60000), (278, 1)])
def test_a_tiff_that_claims_more_strips_than_it_has(tag: int, value: int) -> None:
    data = bytearray(pillow(RGB, "TIFF", compression="tiff_lzw"))
    place = data.index(struct.pack("<H", tag) + struct.pack("<HI", 3, 1))
    struct.pack_into("<I", data, place + 8, value)
    refused(bytes(data), "1 of its 60 strips" if tag == 278 else "not a complete")


def test_a_tiff_that_points_far_outside() -> None:
    for place in (2**33, 2**64 - 1):
        refused(struct.pack("<2sHHHQ", b"II", 43, 8, 0, place) + bytes(99), "not a complete")


def test_tiles_that_are_missing() -> None:
    data = tiff("lzw", tile=True, tile_width=64, tile_height=64)
    second = data.index(struct.pack("<12I", *tiff_numbers(data, 325))) + 4
    refused(data[:second] + bytes(4) + data[second + 4 :], "11 of its 12 strips or tiles")


def test_a_jpeg_without_its_end_mark() -> None:
    for options in ({}, {"progressive": True}):
        refused(pillow(RGB, "JPEG", **options)[:-2], "cut off: no end mark")
    thumbnail = pillow(RGB.resize((16, 12)), "JPEG")
    data = pillow(RGB, "JPEG", exif=b"Exif\0\0" + thumbnail)
    refused(data[:-100], "cut off: no end mark")  # that of the thumbnail does not count


def test_what_follows_a_jpeg_does_not_matter() -> None:
    data = pillow(RGB, "JPEG")
    video = struct.pack(">I", 24) + b"ftypmp42" + bytes(12) + noise(999).tobytes()
    for more in (b"\0", bytes(9999), video, data, data[: len(data) // 2]):
        np.testing.assert_array_equal(decode_image(data + more, "a").pixels, decode_image(data, "a").pixels)
    decode_image(pillow(RGB, "MPO", save_all=True, append_images=[RGB]), "a")


@pytest.mark.parametrize("lossless", [False, True])
def test_a_flat_webp_may_end_in_zeros(lossless: bool) -> None:
    """libwebp writes hundreds of them for a flat end, and needs every one."""
    pixels = noise(320, 320, 3)
    pixels[224:] = 0 if lossless else 128
    options = {"lossless": True, "quality": 0} if lossless else {"quality": 80}
    data = pillow(Image.fromarray(pixels), "WEBP", method=0, **options)
    assert data.endswith(bytes(99))
    assert decode_image(data, "a").pixels.shape == (320, 320, 3)
    keep = len(data.rstrip(b"\0")) - 500
    refused(data[:keep] + bytes(len(data) - keep), "zeros in place of the end")


def test_zeros_in_a_tiff_that_is_not_compressed_are_black(tmp_path: Path) -> None:
    data = tiff("none")
    start, end = last_part(data)
    (tmp_path / "a.tif").write_bytes(data[: end - 60] + bytes(60) + data[end:])
    assert not read_image(tmp_path / "a.tif").pixels[-1, -20:].any()
