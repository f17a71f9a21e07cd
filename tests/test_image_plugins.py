"""Formats that are read and not written: their values, depth, profile and size, and damage in one line."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

from esc_sr.errors import ImageError
from esc_sr.image import (
    FORMATS,
    decode_header,
    decode_image,
    decode_region,
    decode_size,
    read_header,
    read_image,
    read_size,
    write_image,
)
from esc_sr.image.containers import kind_of
from pictures import ADOBE_RGB, SRGB, noise, pillow, silent, smooth

RGB, RGBA = Image.fromarray(noise(33, 47, 3)), Image.fromarray(noise(33, 47, 4))
GREY, GREY_ALPHA = Image.fromarray(noise(33, 47)), Image.fromarray(noise(33, 47, 2))
DEEP = Image.fromarray(noise(33, 47).astype(np.uint16) * 257 + 3)
HEIC = Path(__file__).parent / "data" / "heic"


def icon(**options: Any) -> Callable[[], bytes]:
    sizes = [(16, 16), (47, 33), (32, 32)]
    return lambda: pillow(RGBA, "ICO", sizes=sizes, **options)


FILES: dict[str, tuple[Image.Image, Callable[[], bytes]]] = {
    "bmp": (RGB, lambda: pillow(RGB, "BMP")),
    "bmp grey": (GREY, lambda: pillow(GREY, "BMP")),
    "bmp palette": (RGB.quantize(16), lambda: pillow(RGB.quantize(16), "BMP")),
    "bmp bits": (GREY.convert("1"), lambda: pillow(GREY.convert("1"), "BMP")),
    "ico": (RGBA, icon()),
    "ico of bmp": (RGBA, icon(bitmap_format="bmp")),
    "tga": (RGB, lambda: pillow(RGB, "TGA")),
    "tga rle": (RGBA, lambda: pillow(RGBA, "TGA", compression="tga_rle")),
    "tga grey alpha": (GREY_ALPHA, lambda: pillow(GREY_ALPHA, "TGA")),
    "tga palette": (RGB.quantize(16), lambda: pillow(RGB.quantize(16), "TGA")),
    "ppm": (RGB, lambda: pillow(RGB, "PPM")),
    "pgm": (GREY, lambda: pillow(GREY, "PPM")),
    "pgm 16 bits": (DEEP, lambda: pillow(DEEP, "PPM")),
    "pbm": (GREY.convert("1"), lambda: pillow(GREY.convert("1"), "PPM")),
    "jp2": (RGB, lambda: pillow(RGB, "JPEG2000")),
    "jp2 alpha": (RGBA, lambda: pillow(RGBA, "JPEG2000")),
    "jp2 grey 16 bits": (DEEP, lambda: pillow(DEEP, "JPEG2000")),
    "j2k": (RGB, lambda: pillow(RGB, "JPEG2000", no_jp2=True)),
}


def values(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image.convert({"1": "L", "P": "RGB"}.get(image.mode, image.mode)))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


@pytest.mark.parametrize("name", FILES)
def test_values_are_kept(name: str, tmp_path: Path) -> None:
    image, make = FILES[name]
    data = make()
    path = tmp_path / "a.dat"
    path.write_bytes(data)
    picture = read_image(path)  # a warning would be an error
    np.testing.assert_array_equal(picture.pixels, values(image))
    assert picture.pixels.dtype == values(image).dtype
    assert read_size(path) == decode_size(memoryview(data), "a") == (33, 47)
    header = read_header(path)
    assert header == decode_header(memoryview(data), "a") and header[:3] == (1, 33, 47)
    assert header.pixel_bytes >= picture.pixels[0, 0].nbytes
    part = decode_region(memoryview(data), "a", 5, 7, 20, 30).pixels
    np.testing.assert_array_equal(part, picture.pixels[5:25, 7:37])


@pytest.mark.parametrize("name", FILES)
def test_damage_is_one_line(name: str) -> None:
    data = FILES[name][1]()
    for end in range(2, len(data) // 2, max(1, len(data) // 40)):
        with pytest.raises(ImageError) as caught:
            decode_image(data[:end], "cut.dat", notify=silent)
        assert "cannot read cut.dat: " in str(caught.value) and str(caught.value).isprintable()
        with pytest.raises(ImageError):
            decode_region(memoryview(data[:end]), "cut.dat", 0, 0, 1, 1)


def test_too_large_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    header = struct.pack("<2sIHHI IiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 600, 600, 1, 24, 0, 0, 0, 0, 0, 0)
    monkeypatch.setattr("esc_sr.image.read.MAX_PIXELS", 600 * 600 - 1)
    with pytest.raises(ImageError, match="600 x 600 pixels, .*--allow-large"):
        decode_image(header, "a.bmp")
    with pytest.raises(ImageError, match=r"^cannot read a.bmp: not a complete BMP picture \("):
        decode_image(header, "a.bmp", allow_large=True)


def test_sixteen_bits_of_a_ppm() -> None:
    levels = np.arange(2 * 3 * 3, dtype=np.uint16).reshape(2, 3, 3) * 3000
    data = b"P6\n# a comment\n3 2\n65535\n" + levels.astype(">u2").tobytes()
    np.testing.assert_array_equal(decode_image(data, "a").pixels, levels)
    of_1000 = decode_image(b"P6 1 1 1000\n" + struct.pack(">3H", 0, 500, 1000), "a").pixels
    np.testing.assert_array_equal(of_1000, [[[0, 32768, 65535]]])
    with pytest.raises(ImageError, match="not a complete PPM picture"):
        decode_image(data[:-1], "a")


def test_sixteen_bits_of_a_plain_ppm() -> None:
    levels = np.arange(2 * 3 * 3, dtype=np.uint16).reshape(2, 3, 3) * 3000
    numbers = b"\n".join(b"%d" % level for level in levels.flat)
    data = b"P3\n3 2\n65535\n# a comment\n" + numbers
    np.testing.assert_array_equal(decode_image(data, "a").pixels, levels)
    np.testing.assert_array_equal(decode_image(b"P3 1 1 1000 0 500 1000", "a").pixels, [[[0, 32768, 65535]]])
    with pytest.raises(ImageError, match="not a complete PPM picture"):
        decode_image(data.removesuffix(b"51000"), "a")


def test_bits_of_jpeg_2000() -> None:
    assert decode_image(pillow(DEEP, "JPEG2000", no_jp2=True), "a").bits is None
    coloured = bytearray(pillow(RGB, "JPEG2000", no_jp2=True))
    coloured[42] = coloured[45] = coloured[48] = 11
    heard: list[str] = []
    assert decode_image(bytes(coloured), "a", notify=heard.append).pixels.dtype == np.uint8
    assert heard == ["a: its 12 bits a channel are read as 8"]


def test_profiles_that_pillow_leaves() -> None:
    plain = pillow(RGB, "BMP")
    header = bytearray(124)
    header[:40] = plain[14:54]
    struct.pack_into("<I", header, 0, 124)
    header[56:60] = b"DEBM"
    struct.pack_into("<II", header, 112, 124 + len(plain) - 54, len(ADOBE_RGB))
    start = plain[:10] + struct.pack("<I", 14 + 124)
    picture = decode_image(start + bytes(header) + plain[54:] + ADOBE_RGB, "a")
    assert picture.icc == ADOBE_RGB
    np.testing.assert_array_equal(picture.pixels, values(RGB))
    jp2 = pillow(RGB, "JPEG2000")
    assert decode_image(with_profile(jp2, SRGB), "a").icc == SRGB
    assert decode_image(jp2, "a").icc is None


def with_profile(jp2: bytes, icc: bytes) -> bytes:
    """A JPEG 2000 with a profile, which Pillow does not write."""
    place = jp2.index(b"colr") - 4
    box = struct.pack(">I4sBBB", 11 + len(icc), b"colr", 2, 0, 0) + icc
    old = int.from_bytes(jp2[place : place + 4], "big")
    head = jp2.index(b"jp2h") - 4
    longer = int.from_bytes(jp2[head : head + 4], "big") - old + len(box)
    return jp2[:head] + struct.pack(">I", longer) + jp2[head + 4 : place] + box + jp2[place + old :]


def test_cmyk_of_jpeg_2000_becomes_srgb_through_its_profile_and_says_so() -> None:
    data, heard = pillow(RGB.convert("CMYK"), "JPEG2000"), list[str]()
    decode_image(data, "a", notify=heard.append)
    own = bytes(pyvips.Image.profile_load("cmyk"))
    picture = decode_image(with_profile(data, own), "a", notify=heard.append)
    assert picture.icc is None and picture.pixels.shape[2] == 3
    assert heard == [f"CMYK became sRGB, through {whose} profile" for whose in ("a common", "its own")]


def test_density_is_kept() -> None:
    assert decode_image(pillow(RGB, "BMP", dpi=(300, 300)), "a").dpi == pytest.approx((300, 300), abs=0.01)
    assert decode_image(pillow(RGB, "TGA"), "a").dpi is None


@pytest.mark.parametrize("suffix", [".jfif", ".jpe"])
def test_jfif_is_jpeg(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix.upper()}"
    write_image(read_image(Path(__file__).parents[1] / "examples" / "harbour.png"), path)
    assert FORMATS[suffix] == kind_of(path.read_bytes()) == "jpeg"
    assert read_size(path) == (320, 480)


@pytest.mark.parametrize(
    "data",
    [
        b"BM",
        b"\0\0\1\0\0\0",
        b"P6\n",
        b"P5 99999999999 1 255\n",
        b"\xff\x4f\xff\x51\0",
        b"P1\n3 3\nabc",
        bytes(18),
    ],
)
def test_hardly_a_file(data: bytes) -> None:
    with pytest.raises(ImageError, match="^cannot read a: ") as caught:
        decode_image(data, "a")
    assert str(caught.value).isprintable()


# --- HEIC --------------------------------------------------------------------------------------------------


def test_heic_is_told_from_avif() -> None:
    assert kind_of((HEIC / "turned.heic").read_bytes()) == "heic"
    assert kind_of(pillow(RGB, "AVIF")) == "avif"
    assert kind_of(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic") == "heic"
    assert kind_of(b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif") == "avif"


def test_heic_without_its_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esc_sr.image.plugins.find_spec", lambda name: None)
    data = (HEIC / "turned.heic").read_bytes()
    for read in (
        lambda: decode_image(data, "a.jpg"),
        lambda: decode_size(memoryview(data), "a.jpg"),
    ):
        with pytest.raises(ImageError) as caught:
            read()
        said = "cannot read a.jpg: HEIC, which needs one more package: pip install 'esc-sr[heic]'"
        assert str(caught.value) == said


def test_heic_is_read_upright_with_profile_and_metadata(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    picture = read_image(HEIC / "turned.heic")
    assert read_size(HEIC / "turned.heic") == picture.pixels.shape[:2] == (48, 32)
    upright = np.rot90(smooth(3, height=32, width=48), -1).astype(int)
    assert np.abs(picture.pixels - upright).mean() < 1
    assert picture.icc is not None and b"acsp" in picture.icc
    write_image(picture, tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as written:
        assert dict(written.getexif())[0x0112] == 1 and dict(written.getexif())[0x013B] == "somebody"


def test_bits_and_alpha_of_heic() -> None:
    pytest.importorskip("pi_heif")
    deep = read_image(HEIC / "ten_bits.heic")
    assert deep.pixels.dtype == np.uint16 and deep.bits == 10
    assert np.abs(deep.pixels / 65535 - smooth(3, np.uint16, 32, 48) / 65535).mean() < 0.003
    alpha = read_image(HEIC / "alpha.heic").pixels
    assert np.abs(alpha.astype(int) - smooth(4, height=32, width=48)).mean() < 1


def test_damaged_heic_is_one_line() -> None:
    pytest.importorskip("pi_heif")
    for path in HEIC.iterdir():
        data = path.read_bytes()
        for end in range(20, len(data), 60):
            with pytest.raises(ImageError, match="^cannot read cut.heic: not a complete HEIC picture"):
                decode_image(data[:end], "cut.heic")


def test_a_fourth_byte_that_is_nothing_hides_nothing() -> None:
    for alpha, bands in ((0, 3), (7, 4)):
        data = pillow(Image.fromarray(np.dstack([noise(6, 5, 3), np.full((6, 5), alpha, np.uint8)])), "TGA")
        assert decode_image(data, "a").pixels.shape == (6, 5, bands)
