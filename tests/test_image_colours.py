"""Depths and colour spaces: floats, 10 and 12 bits, CMYK, palettes, wide gamuts."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from esc_sr.image import Encoding, Picture, decode_image, read_image, to_rgb8, write_image
from pictures import ADOBE_RGB, LINEAR_GREY, SRGB, SUFFIXES, noise, pillow, silent, smooth, view

P3 = bytes(pyvips.Image.profile_load("p3"))


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 3, shape).astype(np.float32)


# --- floats ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_float_tiff_keeps_every_value(tmp_path: Path, bands: int) -> None:
    pixels = floats(20, 30, bands)
    write_image(Picture(pixels, icc=P3 if bands > 2 else None), tmp_path / "a.tif")
    back = read_image(tmp_path / "a.tif")
    assert back.pixels.dtype == np.float32
    assert back.icc == (P3 if bands > 2 else None)
    np.testing.assert_array_equal(back.pixels, pixels)
    if bands == 1:
        np.testing.assert_array_equal(np.asarray(view(tmp_path / "a.tif")), pixels[..., 0])


def test_half_precision_becomes_float() -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels, file = floats(9, 8, 3).astype(np.float16), io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="rgb")
    back = decode_image(file.getvalue(), "a", notify=silent).pixels
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, pixels)


@pytest.mark.parametrize("bands", [1, 2])
def test_half_precision_of_grey(bands: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels, file = floats(9, 8, bands).astype(np.float16), io.BytesIO()
    alpha = ["UNASSALPHA"] * (bands - 1)
    shaped = pixels if bands > 1 else pixels[..., 0]
    tifffile.imwrite(file, shaped, photometric="minisblack", extrasamples=alpha, planarconfig="contig")
    np.testing.assert_array_equal(decode_image(file.getvalue(), "a", notify=silent).pixels, pixels)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".gif"])
def test_floats_become_integers_elsewhere(tmp_path: Path, suffix: str) -> None:
    pixels = (smooth(3) / np.float32(255)).astype(np.float32)
    write_image(Picture(pixels), tmp_path / f"a{suffix}", notify=silent)
    back = read_image(tmp_path / f"a{suffix}").pixels
    top = np.iinfo(back.dtype).max
    assert back.dtype == (np.uint16 if suffix in (".png", ".avif") else np.uint8)
    assert np.abs(back / top - pixels).mean() <= {".png": 1e-5, ".gif": 0.03}.get(suffix, 0.006)
    heard: list[str] = []
    pixels[0, 0] = 7, -1, 0.5
    write_image(Picture(pixels), tmp_path / f"b{suffix}", notify=heard.append)
    assert "holds no values outside 0..1: clipped; tiff keeps them" in heard[-1]
    if suffix == ".png":
        assert read_image(tmp_path / "b.png").pixels[0, 0].tolist() == [65535, 0, 32768]


# --- 10 and 12 bits ----------------------------------------------------------------------------------------


def avif(levels: np.ndarray, bits: int) -> bytes:
    """A lossless AVIF of these levels, 0..2 ** bits - 1."""
    pixels = np.ascontiguousarray(levels.astype(np.uint16) << (16 - bits))
    height, width, bands = pixels.shape
    image = pyvips.Image.new_from_memory(pixels.data, width, height, bands, "ushort")
    return bytes(
        image.copy(interpretation="rgb16").heifsave_buffer(compression="av1", bitdepth=bits, lossless=True)
    )


def avif_bits(path: Path) -> int:
    flags = path.read_bytes()[path.read_bytes().index(b"av1C") + 6]
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


@pytest.mark.parametrize("bits", [10, 12])
def test_ten_and_twelve_bit_avif_fill_sixteen_bits_and_go_back(tmp_path: Path, bits: int) -> None:
    levels = np.random.default_rng(0).integers(0, 2**bits, (16, 32, 3))
    levels[:, 16:] = np.array([0, 2**bits - 1, 1])
    picture = decode_image(avif(levels, bits), "a")
    assert picture.pixels.dtype == np.uint16
    assert picture.bits == bits
    assert np.abs(picture.pixels / 65535 - levels / (2**bits - 1)).max() < 1 / 65535
    assert picture.pixels[0, 16].tolist()[:2] == [0, 65535]
    write_image(picture, tmp_path / "a.avif", encoding=Encoding(lossless=True))
    assert avif_bits(tmp_path / "a.avif") == bits
    np.testing.assert_array_equal(read_image(tmp_path / "a.avif").pixels, picture.pixels)
    write_image(picture, tmp_path / "b.avif")
    assert avif_bits(tmp_path / "b.avif") == bits
    write_image(picture, tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, picture.pixels)


def test_sixteen_bits_become_ten_in_avif(tmp_path: Path) -> None:
    ramp = np.arange(65536, dtype=np.uint16)[::16].reshape(64, 64, 1).repeat(3, 2)
    write_image(Picture(ramp), tmp_path / "a.avif", encoding=Encoding(100), notify=silent)
    assert avif_bits(tmp_path / "a.avif") == 10
    assert np.abs(read_image(tmp_path / "a.avif").pixels.astype(int) - ramp).max() <= 65536 / 1024 * 2
    write_image(Picture(ramp), tmp_path / "b.avif", encoding=Encoding(lossless=True), notify=silent)
    assert avif_bits(tmp_path / "b.avif") == 12
    assert np.abs(read_image(tmp_path / "b.avif").pixels.astype(int) - ramp).max() <= 65536 / 4096
    write_image(Picture(smooth(3)), tmp_path / "c.avif")
    assert avif_bits(tmp_path / "c.avif") == 8


# --- palettes ----------------------------------------------------------------------------------------------


def test_gif_palettes_are_expanded_and_transparency_kept(tmp_path: Path) -> None:
    palette = Image.fromarray(noise(20, 30, 3)).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    np.testing.assert_array_equal(
        decode_image(pillow(palette, "GIF"), "a").pixels, np.asarray(palette.convert("RGB"))
    )
    data = pillow(palette, "GIF", transparency=3)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    picture = decode_image(data, "a")
    shown = expected[..., 3] > 0
    assert 0 < shown.sum() < shown.size
    np.testing.assert_array_equal(picture.pixels[..., 3], expected[..., 3])
    np.testing.assert_array_equal(picture.pixels[shown], expected[shown])
    for suffix in (".png", ".gif"):
        write_image(picture, tmp_path / f"a{suffix}", notify=silent)
        back = read_image(tmp_path / f"a{suffix}").pixels
        np.testing.assert_array_equal(back[shown], expected[shown])
        np.testing.assert_array_equal(back[..., 3], expected[..., 3])


# --- CMYK --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_becomes_srgb(format: str) -> None:
    cmyk = Image.fromarray(smooth(3)).convert("CMYK")
    heard: list[str] = []
    picture = decode_image(pillow(cmyk, format), "a", notify=heard.append)
    assert heard == ["CMYK became sRGB, through a common profile"]
    assert picture.icc is None
    assert picture.pixels.shape == (37, 50, 3)
    assert np.abs(picture.pixels.astype(float) - smooth(3)).mean() < 60  # another ink, but not inverted


def test_cmyk_goes_through_its_profile(tmp_path: Path) -> None:
    source = pyvips.Image.new_from_array(smooth(3)).copy(interpretation="srgb").icc_transform("cmyk")
    data = source.jpegsave_buffer(Q=100, subsample_mode="off")
    profile = source.get("icc-profile-data")
    heard: list[str] = []
    picture = decode_image(data, "a", notify=heard.append)
    assert heard == ["CMYK became sRGB, through its own profile"]
    assert picture.icc is None
    expected = ImageCms.profileToProfile(
        Image.open(io.BytesIO(data)),
        io.BytesIO(profile),
        io.BytesIO(SRGB),
        outputMode="RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    assert np.abs(picture.pixels.astype(int) - np.asarray(expected)).mean() < 0.5
    stale = Picture(picture.pixels, icc=profile)
    for suffix in SUFFIXES:
        write_image(stale, tmp_path / f"a{suffix}")
        assert view(tmp_path / f"a{suffix}").info.get("icc_profile") is None


# --- wide gamuts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".avif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_wide_gamut_values_and_profile_stay(tmp_path: Path, suffix: str, dtype: type) -> None:
    pixels = smooth(3, dtype)
    write_image(Picture(pixels, icc=P3), tmp_path / f"a{suffix}", notify=silent)
    back = read_image(tmp_path / f"a{suffix}")
    assert back.icc == P3
    difference = np.abs(back.pixels / np.iinfo(back.pixels.dtype).max - pixels / np.iinfo(dtype).max)
    assert difference.mean() <= (0 if suffix in (".png", ".tif") else 0.006)


def test_gif_has_no_profile_and_so_becomes_srgb(tmp_path: Path) -> None:
    colour = (200, 60, 40)
    flat = np.full((8, 8, 3), colour, np.uint8)
    write_image(Picture(flat, icc=P3), tmp_path / "a.gif", notify=silent)
    expected = ImageCms.profileToProfile(
        Image.fromarray(flat),
        io.BytesIO(P3),
        io.BytesIO(SRGB),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    back = read_image(tmp_path / "a.gif").pixels[0, 0, :3].astype(int)
    assert np.abs(back - np.asarray(expected)[0, 0]).max() <= 1
    assert np.abs(back - colour).max() >= 10


def test_colours_named_by_a_code_are_understood_or_said() -> None:
    plain = pillow(Image.fromarray(noise(8, 9, 3)), "AVIF")
    place = plain.index(b"colrnclx") + 8
    png = pillow(Image.fromarray(noise(8, 9, 3)), "PNG")
    for primaries, transfer, icc, said in (
        (1, 13, None, []),
        (12, 13, P3, []),
        (9, 16, None, ["a: its colours, code 9/16 of ITU-T H.273, are taken for sRGB"]),
    ):
        coded = plain[:place] + struct.pack(">HH", primaries, transfer) + plain[place + 4 :]
        chunk = png_chunk(b"cICP" + bytes([primaries, transfer, 0, 1]))
        for data in (coded, png[:33] + chunk + png[33:]):
            heard: list[str] = []
            assert decode_image(data, "a", notify=heard.append).icc == icc
            assert heard == said


def png_chunk(named: bytes) -> bytes:
    """A PNG chunk, of its name and content."""
    return struct.pack(">I", len(named) - 4) + named + struct.pack(">I", zlib.crc32(named))


ADOBE_PLACES = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
SRGB_PLACES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def png_of_gamma(gamma: int, *places: int, mode: str = "RGB", more: bytes = b"") -> bytes:
    """A PNG that says by numbers what its colours are."""
    plain = pillow(Image.fromarray(noise(8, 9, 3)).convert(mode), "PNG")
    said = png_chunk(b"gAMA" + struct.pack(">I", gamma))
    said += png_chunk(b"cHRM" + struct.pack(">8I", *places)) if places else b""
    return plain[:33] + more + said + plain[33:]


def in_srgb(icc: bytes, colour: tuple[int, ...]) -> list[int]:
    made = ImageCms.profileToProfile(
        Image.new("RGB" if len(colour) == 3 else "L", (1, 1), colour),
        io.BytesIO(icc),
        io.BytesIO(SRGB),
        outputMode="RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    return np.asarray(made)[0, 0].tolist()


def test_gamma_and_primaries_of_a_png_become_a_profile(tmp_path: Path) -> None:
    for mode in ("RGB", "L", "LA", "P", "RGBA"):
        picture = decode_image(png_of_gamma(100_000, mode=mode), "a")
        assert picture.icc is not None
        colour = (55,) if mode in ("L", "LA") else (55, 128, 250)
        assert in_srgb(picture.icc, colour) == [128, 188, 253][: len(colour)] * (3 // len(colour))
        write_image(picture, tmp_path / "a.jpg", overwrite=True, notify=silent)
        assert read_image(tmp_path / "a.jpg").icc == picture.icc
    wide = decode_image(png_of_gamma(45_470, *ADOBE_PLACES), "a").icc
    assert wide is not None
    for colour in ((200, 100, 50), (10, 250, 30), (128, 128, 128)):
        assert in_srgb(wide, colour) == in_srgb(ADOBE_RGB, colour)


@pytest.mark.parametrize(
    "data",
    [
        png_of_gamma(45_455),
        png_of_gamma(45_000, *SRGB_PLACES),
        png_of_gamma(45_455, *ADOBE_PLACES, mode="L"),
        png_of_gamma(100_000, more=png_chunk(b"sRGB\0")),
        png_of_gamma(100_000, more=png_chunk(b"cICP" + bytes([1, 13, 0, 1]))),
        png_of_gamma(0),
        png_of_gamma(2**32 - 1),
    ],
)
def test_gamma_of_srgb_or_of_nothing_is_no_profile(data: bytes) -> None:
    assert decode_image(data, "a").icc is None


@pytest.mark.parametrize("places", [(0,) * 8, (2**32 - 1,) * 8, (31270, 0, *SRGB_PLACES[2:]), (3,) * 8])
def test_primaries_that_make_no_colours_are_those_of_srgb(places: tuple[int, ...]) -> None:
    icc = decode_image(png_of_gamma(100_000, *places), "a").icc
    assert icc == decode_image(png_of_gamma(100_000), "a").icc


# --- 8-bit RGB ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_kind_of_picture_becomes_rgb8(channels: int, dtype: type[np.uint8] | type[np.uint16]) -> None:
    eight = np.random.default_rng(0).integers(0, 256, (5, 6, channels))
    pixels = (eight * 257 if dtype is np.uint16 else eight).astype(dtype)
    rgb = to_rgb8(Picture(pixels))
    assert rgb.dtype == np.uint8
    expected = eight[..., [0, 0, 0]] if channels < 3 else eight[..., :3]
    np.testing.assert_array_equal(rgb, expected)


def test_sixteen_bits_are_rounded_not_cut() -> None:
    pixels = np.array([[[0, 128, 129], [65535, 65407, 65406]]], dtype=np.uint16)
    np.testing.assert_array_equal(to_rgb8(Picture(pixels)), [[[0, 0, 1], [255, 255, 254]]])


def test_floats_are_rounded_and_clipped() -> None:
    pixels = np.array([[[-1.0, 0.5, 2.0], [0.1, 0.2, 1.0]]], np.float32)
    np.testing.assert_array_equal(to_rgb8(Picture(pixels)), [[[0, 128, 255], [26, 51, 255]]])


def test_grey_on_a_coloured_background_goes_through_its_profile(tmp_path: Path) -> None:
    pixels = np.full((8, 8, 2), (128, 255), np.uint8)
    write_image(
        Picture(pixels, icc=LINEAR_GREY),
        tmp_path / "a.jpg",
        encoding=Encoding(background="#ff0000"),
        notify=silent,
    )
    found = read_image(tmp_path / "a.jpg").pixels
    assert found.shape == (8, 8, 3) and np.abs(found.astype(int) - 188).max() <= 2


def test_a_profile_that_is_none_of_cmyk_is_not_said_to_be_used() -> None:
    heard: list[str] = []
    data = pillow(Image.fromarray(smooth(3)).convert("CMYK"), "JPEG", icc_profile=SRGB)
    decode_image(data, "a", notify=heard.append)
    assert heard == ["CMYK became sRGB, through a common profile"]
