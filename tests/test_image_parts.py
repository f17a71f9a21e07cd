"""Files of several pictures, and files of too many pixels."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import esc_sr.image.read
from esc_sr.errors import ImageError
from esc_sr.image import (
    Animation,
    Encoding,
    Picture,
    decode_animation,
    decode_image,
    read_animation,
    read_header,
    read_size,
    write_image,
)
from pictures import SUFFIXES, noise, pillow, silent

LOSSLESS = Encoding(lossless=True)


def moving(bands: int = 3) -> Animation:
    """A square that moves over black, or over nothing, and once stands still."""
    frames = []
    for left in (2, 8, 8, 14):
        pixels = np.zeros((16, 24, bands), np.uint8)
        pixels[4:12, left : left + 8] = (255, 90, 10, 255)[:bands]
        frames.append(Picture(pixels))
    return Animation(frames, [50, 100, 120, 210], 3)


def same(one: Animation, other: Animation, bands: int, joined: bool) -> None:
    """Assert equal timing and visible values; `joined` frames that are equal are one."""
    frames, delays = other.frames, other.delays
    if joined:
        frames, delays = [frames[place] for place in (0, 1, 3)], [50, 220, 210]
    assert (one.delays, one.loop) == (delays, other.loop)
    for a, b in zip(one.frames, frames, strict=True):
        if bands == 4:
            np.testing.assert_array_equal(a.pixels[..., 3], b.pixels[..., 3])
        shown = b.pixels[..., -1] > 0 if bands == 4 else np.ones(b.pixels.shape[:2], bool)
        np.testing.assert_array_equal(a.pixels[shown][:, :3], b.pixels[shown][:, :3])


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_keep_frames_timing_and_loops(tmp_path: Path, suffix: str, bands: int) -> None:
    write_image(moving(bands), tmp_path / f"a{suffix}", encoding=LOSSLESS, notify=silent)
    same(read_animation(tmp_path / f"a{suffix}"), moving(bands), bands, suffix == ".webp")
    with Image.open(tmp_path / f"a{suffix}") as seen:
        assert getattr(seen, "n_frames", 1) == (3 if suffix == ".webp" else 4)
        seen.seek(1)
        square = np.asarray(seen.convert("RGBA"))[4:12, 8:16]
        np.testing.assert_array_equal(square, moving(4).frames[1].pixels[4:12, 8:16])


def test_frames_are_composed_as_they_are_shown() -> None:
    frames = [Image.fromarray(frame.pixels) for frame in moving().frames]
    data = pillow(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=40, optimize=True)
    with Image.open(io.BytesIO(data)) as stored:
        stored.seek(1)
        assert stored.tile[0][1] != (0, 0, 24, 16)  # only a part of the second frame is in the file
    animation = decode_animation(data, "a")
    shown = [np.asarray(frame) for frame in frames]
    unique = [shown[0], shown[1], shown[3]]  # Pillow joins equal frames
    for frame, expected in zip(animation.frames, unique, strict=True):
        np.testing.assert_array_equal(frame.pixels[..., :3], expected)
    assert (animation.delays, animation.loop) == ([40, 80, 40], 1)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG", "AVIF"])
def test_what_is_read_in_part_says_so(format: str) -> None:
    first, second = Image.fromarray(noise(8, 9, 3)), Image.fromarray(255 - noise(8, 9, 3))
    options: dict[str, Any] = {"AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(format, {})
    if format == "WEBP":
        options = {"lossless": True}
    data = pillow(first, format, save_all=True, append_images=[second], **options)
    heard: list[str] = []
    pixels = decode_image(data, "a.b", notify=heard.append).pixels
    if format in ("PNG", "AVIF"):
        assert heard == ["a.b: the first frame of the animation is read"]
    else:
        assert heard == ["a.b: the first of 2 pages is read"]
    difference = np.abs(pixels[..., :3].astype(int) - np.asarray(first))
    assert difference.mean() <= {"GIF": 20, "AVIF": 2}.get(format, 0)
    if format not in ("GIF", "WEBP"):
        heard.clear()
        assert len(decode_animation(data, "a.b", notify=heard.append).frames) == 1
        assert len(heard) == 1
    still = pillow(first, format)
    decode_image(still, "a")  # a warning would be an error


def test_formats_of_one_picture_get_the_first_frame(tmp_path: Path) -> None:
    heard: list[str] = []
    write_image(moving(), tmp_path / "a.png", notify=heard.append)
    assert heard == ["png holds the first frame only; gif and webp hold animations"]
    np.testing.assert_array_equal(
        read_animation(tmp_path / "a.png").frames[0].pixels, moving().frames[0].pixels
    )


def test_a_turned_animation_is_turned_frame_by_frame() -> None:
    frames = [Image.fromarray(frame.pixels) for frame in moving().frames[:2]]
    exif = Image.Exif()
    exif[0x112] = 6
    data = pillow(
        frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, exif=exif.tobytes()
    )
    for frame, expected in zip(decode_animation(data, "a").frames, frames, strict=True):
        np.testing.assert_array_equal(frame.pixels[..., :3], np.rot90(np.asarray(expected), -1))


# --- too large ---------------------------------------------------------------------------------------------


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be so large."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_a_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(ImageError, match=r"^cannot read a: 1 x 32768 x 16385 pixels, and at most 536870912"):
        decode_image(claiming(32768, 16385), "a")
    with pytest.raises(ImageError, match="not a complete PNG"):
        decode_image(claiming(4096, 4096), "a")
    for width, height in ((2**31 - 1, 1), (2**31 - 1, 2**31 - 1)):
        with pytest.raises(ImageError):
            decode_image(claiming(width, height), "a")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF"])
def test_the_limit_holds_for_every_format(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esc_sr.image.read, "MAX_PIXELS", 24 * 16)
    frames = [Image.fromarray(frame.pixels) for frame in moving().frames]
    assert decode_image(pillow(frames[0], format), "a").pixels.shape == (16, 24, 3)
    larger = pillow(frames[0].resize((24, 17)), format)
    with pytest.raises(ImageError, match="1 x 24 x 17 pixels.*--allow-large"):
        decode_image(larger, "a")
    assert decode_image(larger, "a", allow_large=True).pixels.shape == (17, 24, 3)
    if format in ("GIF", "WEBP"):
        data = pillow(frames[0], format, save_all=True, append_images=frames[3:])
        with pytest.raises(ImageError, match="2 x 24 x 16 pixels"):
            decode_animation(data, "a")
        assert len(decode_animation(data, "a", allow_large=True).frames) == 2
        assert decode_image(data, "a", notify=silent).pixels.shape[:2] == (16, 24)


def test_an_avif_of_impossible_size_is_refused_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    data = pillow(Image.fromarray(noise(8, 9, 3)), "AVIF")
    place = data.index(b"ispe") + 8
    with pytest.raises(ImageError, match="larger than AVIF can be"):
        decode_image(data[:place] + struct.pack(">I", 134_217_759) + data[place + 4 :], "a")
    assert capfd.readouterr() == ("", "")


def test_sizes_are_read_without_decoding(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[274] = 6
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))  # a name that is not UTF-8
    odd.write_bytes(pillow(Image.fromarray(noise(10, 20, 3)), "JPEG", exif=turned)[:-30])
    assert read_size(odd) == (20, 10) and read_header(odd)[:3] == (1, 20, 10)
    for suffix in SUFFIXES:
        write_image(Picture(noise(16, 24, 3)), tmp_path / f"a{suffix}")
        assert read_size(tmp_path / f"a{suffix}") == (16, 24)
    write_image(moving(), tmp_path / "a.gif", notify=silent)
    assert read_header(tmp_path / "a.gif")[:3] == (4, 16, 24)


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"\0\0\0\0ftypavif"])
def test_what_has_no_size(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png"):
        read_size(path)
    assert capfd.readouterr().err == ""
