"""Reading and writing picture files: values, metadata, damage, and never half a file."""

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

import esc_sr.image
from esc_sr.errors import ImageError, UsageError
from esc_sr.image import FORMATS, MAX_SIDE, Picture, decode_image, format_of, read_image, write_image
from pictures import SRGB, SUFFIXES, noise, pillow, smooth, view

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
    write_image(Picture(smooth(bands, dtype)), tmp_path / f"a{suffix}")
    back = read_image(tmp_path / f"a{suffix}").pixels.astype(float)
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


def test_sixteen_bit_is_rounded_for_formats_of_eight() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    for kind, bands in (("jpeg", 1), ("webp", 1)):
        image = esc_sr.image._prepare(Picture(every), kind)
        assert image.bands == bands
        np.testing.assert_array_equal(image.numpy(), np.rint(every[..., 0] / 257))


def test_alpha_is_laid_on_white_in_jpeg() -> None:
    every = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1).astype(np.uint8)
    exact = every[..., 0] * (every[..., 1] / 255) + (255 - every[..., 1].astype(float))
    result = esc_sr.image._prepare(Picture(every), "jpeg").numpy()
    assert np.abs(result - exact).max() <= 0.5 + 1e-4


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


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_becomes_srgb(format: str) -> None:
    cmyk = Image.fromarray(smooth(3)).convert("CMYK")
    picture = decode_image(pillow(cmyk, format), "a")
    assert picture.icc is None
    assert picture.pixels.shape == (37, 50, 3)
    assert np.abs(picture.pixels.astype(float) - smooth(3)).mean() < 60  # another ink, but not inverted


def test_cmyk_goes_through_its_profile(tmp_path: Path) -> None:
    source = pyvips.Image.new_from_array(smooth(3)).copy(interpretation="srgb").icc_transform("cmyk")
    data = source.jpegsave_buffer(Q=100, subsample_mode="off")
    profile = source.get("icc-profile-data")
    picture = decode_image(data, "a")
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


def test_only_the_first_page_is_read() -> None:
    pages = [Image.fromarray(noise(8, 9, 3)), Image.fromarray(255 - noise(8, 9, 3))]
    for format in ("TIFF", "WEBP"):
        data = pillow(pages[0], format, save_all=True, append_images=pages[1:], lossless=True)
        np.testing.assert_array_equal(decode_image(data, "a").pixels, noise(8, 9, 3))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1, 1), (3, 1, 4)])
def test_tiny_pictures(tmp_path: Path, suffix: str, shape: tuple[int, int, int]) -> None:
    write_image(Picture(np.full(shape, 255, np.uint8)), tmp_path / f"a{suffix}")
    back = read_image(tmp_path / f"a{suffix}").pixels
    assert back.shape[:2] == shape[:2]
    assert (back >= 250).all()


def test_a_picture_is_checked() -> None:
    for pixels in (noise(4, 4), noise(4, 4, 5), noise(4, 0, 3), noise(4, 4, 3).astype(np.float32)):
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
}


@pytest.mark.parametrize("kind", INTACT)
def test_truncated_files_are_errors(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = INTACT[kind]()
    assert decode_image(data, "whole").pixels.shape[:2] == ((70, 60) if kind == "jpeg turned" else (60, 70))
    length = len(data)
    for keep in [1, 4, 12, 40, *(length * part // 20 for part in range(1, 20)), *range(length - 20, length)]:
        with pytest.raises(ImageError, match="^cannot read cut.x: not a complete PNG, JPEG") as caught:
            decode_image(data[:keep], "cut.x")
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["png", "tiff deflate", "avif"])
def test_corrupted_files_are_errors(kind: str) -> None:
    data = bytearray(INTACT[kind]())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    with pytest.raises(ImageError, match="not a complete"):
        decode_image(bytes(data), "broken")


def test_harmless_warnings_are_no_errors(capfd: pytest.CaptureFixture[str]) -> None:
    trailing = decode_image(INTACT["jpeg"]() + b"more", "a")
    assert trailing.pixels.shape == (60, 70, 3)
    unknown_tag = pillow(Image.fromarray(noise(6, 7, 3)), "TIFF", tiffinfo={65000: "mine"})
    np.testing.assert_array_equal(decode_image(unknown_tag, "a").pixels, noise(6, 7, 3))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"no picture at all, only text" * 9, "not a complete PNG, JPEG, WebP, TIFF or AVIF picture"),
        (bytes(4096), "not a complete"),
        (pillow(Image.fromarray(noise(8, 9)), "GIF"), r"not a complete .*\(gifload\)"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', r"not a complete .*\(svgload\)"),
        (pillow(Image.fromarray(noise(8, 9).astype(np.float32)), "TIFF"), "1 channels of b-w float"),
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


# --- writing -----------------------------------------------------------------------------------------------


def test_formats_by_name() -> None:
    assert [format_of(f"x/a.b{suffix.upper()}") for suffix in FORMATS] == list(FORMATS.values())
    for name in ("a", "a.bmp", ".png", "a.png.txt"):
        with pytest.raises(ImageError, match=r"use \.png, \.jpg"):
            format_of(name)


@pytest.mark.parametrize("format", ["png", "jpeg", "jpg", "webp", "tif", "tiff", "avif", "PNG"])
def test_an_explicit_format_wins(tmp_path: Path, format: str) -> None:
    write_image(Picture(smooth(3)), tmp_path / "a.dat", format=format)
    assert view(tmp_path / "a.dat").format == format_of(f"a.{format}").upper()
    with pytest.raises(ImageError, match=r"a\.bmp: no picture format"):
        write_image(Picture(smooth(3)), tmp_path / "a.png", format="bmp")


def test_an_existing_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write_image(Picture(smooth(3)), tmp_path / "a.png")
    with pytest.raises(ImageError, match="exists"):
        write_image(Picture(smooth(1)), tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, smooth(3))
    write_image(Picture(smooth(1)), tmp_path / "a.png", overwrite=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, smooth(1))
    assert os.listdir(tmp_path) == ["a.png"]
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("overwrite", [False, True])
def test_impossible_targets(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file.png").write_bytes(b"kept")
    for target, message in (
        ("missing/a.png", "No such file"),
        ("folder.png", "not a regular file"),
        ("file.png/a.png", "Not a directory"),
        (f"{'n' * 300}.png", "too long"),
    ):
        with pytest.raises(ImageError, match=f"cannot write .*{message}") as caught:
            write_image(Picture(smooth(3)), tmp_path / target, overwrite=overwrite)
        assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file.png", "folder.png"]
    assert (tmp_path / "file.png").read_bytes() == b"kept"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_nothing(tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    resource = pytest.importorskip("resource")
    (tmp_path / f"old{suffix}").write_bytes(b"kept")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name in ("new", "old"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # as root, no other disk can be full
        try:
            with pytest.raises(ImageError, match=f"cannot write .*: {os.strerror(errno.EFBIG)}$"):
                write_image(Picture(noise(200, 200, 3)), tmp_path / f"{name}{suffix}", overwrite=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == [f"old{suffix}"]
    assert (tmp_path / f"old{suffix}").read_bytes() == b"kept"
    assert capfd.readouterr() == ("", "")


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        assert len(os.listdir(tmp_path)) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(esc_sr.image, "_save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_image(Picture(smooth(3)), tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_too_large_for_the_format(tmp_path: Path, suffix: str) -> None:
    limit = MAX_SIDE[format_of(f"a{suffix}")]
    write_image(Picture(np.zeros((1, limit, 1), np.uint8)), tmp_path / f"a{suffix}")
    assert read_image(tmp_path / f"a{suffix}").pixels.shape[1] == limit
    with pytest.raises(ImageError, match=f"at most {limit} a side; choose png or tiff"):
        write_image(Picture(np.zeros((limit + 1, 1, 1), np.uint8)), tmp_path / f"b{suffix}")
    assert os.listdir(tmp_path) == [f"a{suffix}"]


def test_written_pixels_are_not_kept_in_memory(tmp_path: Path) -> None:
    import gc
    import weakref

    class Watched(np.ndarray):
        """An array that can be watched: plain ones cannot be referred to weakly."""

    for suffix in SUFFIXES:
        pixels = smooth(4).view(Watched)
        seen = weakref.ref(pixels)
        write_image(Picture(pixels), tmp_path / f"a{suffix}")
        del pixels
        gc.collect()
        assert seen() is None
