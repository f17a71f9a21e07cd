"""Picture files read: values, kinds of files, damage."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

import esc_sr.image.write
from esc_sr.errors import ImageError, UsageError
from esc_sr.image import (
    Animation,
    Encoding,
    Picture,
    decode_animation,
    decode_image,
    read_image,
    read_size,
    write_image,
)
from pictures import SUFFIXES, noise, pillow, silent, smooth, view

LOSSLESS = [".png", ".tif"]


# --- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_lossless_formats_keep_every_value(tmp_path: Path, suffix: str, dtype: type, bands: int) -> None:
    pixels = smooth(bands, dtype)
    write_image(Picture(pixels), tmp_path / f"a{suffix}")
    back = read_image(tmp_path / f"a{suffix}")
    assert back.pixels.dtype == dtype
    np.testing.assert_array_equal(back.pixels, pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_lossy_formats_keep_values_nearly(tmp_path: Path, suffix: str, dtype: type, bands: int) -> None:
    write_image(Picture(smooth(bands, dtype)), tmp_path / f"a{suffix}", notify=silent)
    back = read_image(tmp_path / f"a{suffix}").pixels
    back = back.astype(float) / (257 if back.dtype == np.uint16 else 1)
    expected = smooth(bands, dtype) / (257 if dtype == np.uint16 else 1)
    if suffix == ".jpg" and bands in (2, 4):
        alpha = expected[..., -1:] / 255
        expected = expected[..., :-1] * alpha + 255 * (1 - alpha)
    elif suffix != ".jpg" and bands < 3:
        expected = np.concatenate([expected[..., :1]] * 3 + [expected[..., 1:]], axis=-1)
    assert back.shape == expected.shape
    colour = slice(0, 3)
    seen = np.ones(back.shape[:2], bool) if back.shape[2] < 4 else expected[..., 3] > 64
    assert np.abs(back - expected)[..., colour][seen].max() <= 8
    assert np.abs(back - expected)[..., colour][seen].mean() <= 1.5
    if back.shape[2] == 4:
        assert np.abs(back - expected)[..., 3].max() <= 3


def test_pillow_reads_the_same_values(tmp_path: Path) -> None:
    pixels = smooth(4)
    for suffix in LOSSLESS:
        write_image(Picture(pixels), tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(np.asarray(view(tmp_path / f"a{suffix}")), pixels)
    write_image(Picture(smooth(1, np.uint16)), tmp_path / "grey.png")
    np.testing.assert_array_equal(np.asarray(view(tmp_path / "grey.png")), smooth(1, np.uint16)[..., 0])


@pytest.mark.parametrize("suffix", [".jpg", ".avif"])
def test_colours_are_not_subsampled(tmp_path: Path, suffix: str) -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 255, 0, 0
    stripes[:, 1::2] = 0, 0, 255
    write_image(Picture(stripes), tmp_path / f"a{suffix}")
    assert np.abs(read_image(tmp_path / f"a{suffix}").pixels.astype(int) - stripes).mean() < 12


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_sixteen_bit_is_decided_by_the_file_not_by_its_values(tmp_path: Path, suffix: str) -> None:
    dark = (smooth(3) // 4).astype(np.uint16)
    write_image(Picture(dark), tmp_path / f"a{suffix}")
    back = read_image(tmp_path / f"a{suffix}").pixels
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, dark)


def prepared(pixels: np.ndarray, kind: str) -> np.ndarray:
    """What the encoder gets."""
    image = esc_sr.image.write._prepare(Animation([Picture(pixels)], [], 0), kind, Encoding(), silent)
    return np.asarray(image.numpy())


@pytest.mark.parametrize("kind", ["jpeg", "webp", "gif"])
def test_sixteen_bit_is_rounded_for_formats_of_eight(kind: str) -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    np.testing.assert_array_equal(prepared(every, kind), np.rint(every[..., 0] / 257))


def test_alpha_is_laid_on_white_in_jpeg() -> None:
    every = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1).astype(np.uint8)
    exact = every[..., 0] * (every[..., 1] / 255) + (255 - every[..., 1].astype(float))
    assert np.abs(prepared(every, "jpeg") - exact).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("bits", [10, 12])
def test_ten_and_twelve_bit_avif_fill_sixteen_bits(bits: int) -> None:
    ramp = np.zeros((16, 32, 3), np.uint16)
    ramp[:, 16:] = 65535
    image = pyvips.Image.new_from_memory(ramp.data, 32, 16, 3, "ushort").copy(interpretation="rgb16")
    pixels = decode_image(image.heifsave_buffer(compression="av1", bitdepth=bits, Q=100), "a").pixels
    assert pixels.dtype == np.uint16
    assert (pixels[:, 24:] == 65535).all()
    assert (pixels[:, :8] == 0).all()


# --- kinds of files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_pillow_modes(format: str, mode: str) -> None:
    image = Image.fromarray(noise(20, 30, 4 if mode.endswith("A") else 3)).convert(mode)
    expected = image.convert({"1": "L", "P": "RGB"}.get(mode, mode))
    pixels = decode_image(pillow(image, format), "a").pixels
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(expected).reshape(20, 30, -1))


def test_transparent_palettes_and_colour_keys_become_alpha() -> None:
    palette = Image.fromarray(noise(20, 30, 3)).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    data = pillow(palette, "PNG", transparency=bytes(range(0, 256, 16)))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    np.testing.assert_array_equal(decode_image(data, "a").pixels, expected)
    assert len(np.unique(expected[..., 3])) > 10
    keyed = decode_image(
        pillow(Image.fromarray(noise(20, 30)), "PNG", transparency=int(noise(1)[0])), "a"
    ).pixels
    assert keyed.shape == (20, 30, 2)
    assert keyed[0, 0, 1] == 0


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1, 1), (3, 1, 4)])
def test_tiny_pictures(tmp_path: Path, suffix: str, shape: tuple[int, int, int]) -> None:
    write_image(Picture(np.full(shape, 255, np.uint8)), tmp_path / f"a{suffix}")
    back = read_image(tmp_path / f"a{suffix}").pixels
    assert back.shape[:2] == shape[:2]
    assert (back >= 250).all()


def test_a_picture_is_checked() -> None:
    for pixels in (noise(4, 4), noise(4, 4, 5), noise(4, 0, 3), noise(4, 4, 3).astype(np.float64)):
        with pytest.raises(UsageError, match="uint8 or uint16"):
            Picture(pixels)


# --- damage ------------------------------------------------------------------------------------------------


def deep(save: str, **options: Any) -> bytes:
    pixels = noise(60, 70, 3).astype(np.uint16) * 257
    return bytes(getattr(pyvips.Image.new_from_array(pixels).copy(interpretation="rgb16"), save)(**options))


RGB, RGBA = Image.fromarray(noise(60, 70, 3)), Image.fromarray(noise(60, 70, 4))
INTACT: dict[str, Callable[[], bytes]] = {
    "png": lambda: pillow(RGB, "PNG"),
    "png 16 bit": lambda: deep("pngsave_buffer"),
    "png interlaced": lambda: deep("pngsave_buffer", interlace=True),
    "jpeg": lambda: pillow(RGB, "JPEG"),
    "jpeg progressive": lambda: pillow(RGB, "JPEG", progressive=True),
    "jpeg turned": lambda: pillow(
        RGB, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6" + bytes(7)
    ),
    "jpeg cmyk": lambda: pillow(RGB.convert("CMYK"), "JPEG"),
    "webp": lambda: pillow(RGBA, "WEBP"),
    "webp lossless": lambda: pillow(RGBA, "WEBP", lossless=True),
    "tiff": lambda: pillow(RGB, "TIFF"),
    "tiff deflate": lambda: pillow(RGB, "TIFF", compression="tiff_deflate"),
    "tiff lzw": lambda: pillow(RGB, "TIFF", compression="tiff_lzw"),
    "tiff jpeg": lambda: pillow(RGB, "TIFF", compression="jpeg"),
    "tiff tiled": lambda: deep("tiffsave_buffer", tile=True, compression="deflate"),
    "avif": lambda: pillow(RGBA, "AVIF"),
    "avif 10 bit": lambda: deep("heifsave_buffer", compression="av1", bitdepth=10),
    "gif": lambda: pillow(RGB, "GIF"),
    "gif interlaced": lambda: pillow(RGB.convert("P"), "GIF", interlace=True),
    "gif animated": lambda: pillow(RGB, "GIF", save_all=True, append_images=[RGBA]),
    "webp animated": lambda: pillow(RGB, "WEBP", save_all=True, append_images=[RGBA]),
}


@pytest.mark.parametrize("kind", INTACT)
def test_truncated_files_are_errors(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = INTACT[kind]()
    whole = decode_animation(data, "whole", notify=silent)
    assert len(whole.frames) == (2 if kind.endswith("animated") else 1)
    assert whole.frames[0].pixels.shape[:2] == ((70, 60) if kind == "jpeg turned" else (60, 70))
    length = len(data)
    for keep in [1, 4, 12, 40, *(length * part // 20 for part in range(1, 20)), *range(length - 20, length)]:
        with pytest.raises(ImageError, match="^cannot read cut.x: not a complete PNG, JPEG") as caught:
            decode_image(data[:keep], "cut.x", notify=silent)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["png", "tiff deflate", "avif"])
def test_corrupted_files_are_errors(kind: str) -> None:
    data = bytearray(INTACT[kind]())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    with pytest.raises(ImageError, match="not a complete"):
        decode_image(bytes(data), "broken")


@pytest.mark.parametrize("kind", ["jpeg", "jpeg progressive"])
def test_a_jpeg_that_ends_early_but_in_order_is_an_error(kind: str) -> None:
    data = INTACT[kind]()
    for keep in (len(data) // 2, len(data) - 300):
        for rest in (b"", data[keep:]):
            with pytest.raises(ImageError, match="premature end"):
                decode_image(data[:keep] + b"\xff\xd9" + rest, "a")


def test_a_jpeg_inside_a_tiff_that_ends_early_is_an_error() -> None:
    data = bytearray(INTACT["tiff jpeg"]())
    size = data.index(struct.pack("<HHI", 279, 4, 1)) + 8  # of its one strip
    data[size : size + 4] = struct.pack("<I", struct.unpack_from("<I", data, size)[0] // 2)
    with pytest.raises(ImageError, match="not a complete"):
        decode_image(bytes(data), "a")


@pytest.mark.parametrize("kind", ["gif", "gif interlaced", "gif animated"])
def test_a_gif_that_ends_early_but_in_order_is_an_error(kind: str) -> None:
    data = INTACT[kind]()
    with Image.open(io.BytesIO(data)) as image:
        image.seek(getattr(image, "n_frames", 1) - 1)
        place = image.tile[0][2]  # of the pixel data: blocks of up to 255 bytes
    assert data[place] == 255
    with pytest.raises(ImageError, match="a frame ends early"):
        decode_image(data[: place + 256] + b"\0;", "a", notify=silent)


def test_a_gif_without_an_end_code_is_whole() -> None:
    start = b"GIF89a\2\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\2\0\1\0\0\2"
    for codes in (b"\x44\x0a", b"\x44\x00"):  # 3 bits each: clear, 0, 1 and the end, or not
        data = start + bytes([len(codes)]) + codes + b"\0;"
        assert decode_image(data, "a").pixels[0, :, 0].tolist() == [0, 255]
    with pytest.raises(ImageError, match="a frame ends early"):
        decode_image(start + b"\1\x44\0;", "a")


def test_harmless_warnings_are_no_errors(capfd: pytest.CaptureFixture[str]) -> None:
    trailing = decode_image(INTACT["jpeg"]() + b"more", "a")
    filled = decode_image(INTACT["jpeg"]()[:20] + bytes(3) + INTACT["jpeg"]()[20:], "a")  # libjpeg warns
    np.testing.assert_array_equal(filled.pixels, trailing.pixels)
    unknown_tag = pillow(Image.fromarray(noise(6, 7, 3)), "TIFF", tiffinfo={65000: "mine"})
    np.testing.assert_array_equal(decode_image(unknown_tag, "a").pixels, noise(6, 7, 3))
    assert capfd.readouterr() == ("", "")


def test_a_warning_that_is_no_text_is_not_shown(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    data = INTACT["png"]()
    profile = b"iCCP" + b"\xffCC\0\0" + zlib.compress(noise(200).tobytes())  # no profile, of a strange name
    chunk = struct.pack(">I", len(profile) - 4) + profile + struct.pack(">I", zlib.crc32(profile))
    np.testing.assert_array_equal(decode_image(data[:33] + chunk + data[33:], "a").pixels, noise(60, 70, 3))
    assert "profile '\\xffCC'" in caplog.text  # for whoever wants to know
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"no picture at all, only text" * 9, "not a complete PNG, JPEG, WebP, TIFF, AVIF or GIF picture"),
        (bytes(4096), "not a complete"),
        (pillow(Image.fromarray(noise(8, 9)), "PCX"), r"not a complete .*\(another kind of file\)"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', r"\(another kind of file\)"),
        (
            pillow(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF"),
            "holds NaN or infinite values",
        ),
        (
            pillow(Image.fromarray(np.array([[0, -np.inf]], np.float32)), "TIFF"),
            "holds NaN or infinite values",
        ),
        (pillow(Image.fromarray(noise(8, 9).astype(np.int32)), "TIFF"), "1 channels of b-w int"),
        (bytes(pyvips.Image.black(9, 8, bands=5).tiffsave_buffer()), "5 channels of srgb uchar"),
    ],
)
def test_what_is_not_a_picture_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=rf"^cannot read .*a\.png: .*{message}") as caught:
        read_image(tmp_path / "a.png")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no\.png: No such file"):
        read_image(tmp_path / "no.png")
    with pytest.raises(ImageError, match="Is a directory"):
        read_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for path in (os.devnull, tmp_path / "a.png"):
        for read in (read_image, read_size):
            with pytest.raises(ImageError, match=rf"cannot read {path}: a pipe or device; copy"):
                read(path)


@pytest.mark.parametrize("start", [b"", b"\x89PNG\r\n\x1a\n"])
def test_what_is_not_a_picture_is_not_read_whole(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "a.png").write_bytes(start)
    try:
        os.truncate(tmp_path / "a.png", 2**40)  # zeros that take no room
    except OSError:
        pytest.skip("this disk has no files of a terabyte")
    with pytest.raises(ImageError, match=r"a\.png: not a complete"):
        read_image(tmp_path / "a.png")
