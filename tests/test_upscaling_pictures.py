"""Real files through the engine: what a picture is beside its pixels comes out as it went in."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import pyvips
from torch import Tensor, nn

from esc_sr.image import (
    Animation,
    Encoding,
    Picture,
    fill_transparent,
    read_animation,
    read_image,
    write_image,
)
from esc_sr.upscaling.batch import Choices
from esc_sr.upscaling.engine import Upscaler, upscale
from esc_sr.upscaling.files import Job
from pictures import ADOBE_RGB, SRGB, noise, on_disk, silent, smooth
from upscaled import upscale_file

LOSSLESS = Encoding(lossless=True)
P3 = bytes(pyvips.Image.profile_load("p3"))


class Repeat(nn.Module):
    """Repeats pixels: what comes out is known."""

    def forward(self, lr: Tensor) -> Tensor:
        return lr.repeat_interleave(2, -1).repeat_interleave(2, -2)


@pytest.fixture
def repeat() -> Upscaler:
    return Upscaler(Repeat(), scale=2)


@pytest.fixture(scope="module")
def light() -> Upscaler:
    """The bundled network."""
    return Upscaler("esc-light", scale=2)


def repeated(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(2, 0).repeat(2, 1)


def through(picture: Picture | Animation, folder: Path, names: str, upscaler: Upscaler) -> Picture:
    """Write a picture, upscale the file, read the result; `names` are the two suffixes."""
    source, target = (folder / f"{part}{suffix}" for part, suffix in zip("ab", names.split(), strict=True))
    write_image(picture, source, encoding=LOSSLESS, notify=silent)
    outcome = upscale_file(Job(source, target), upscaler, Choices("overwrite", LOSSLESS))
    assert outcome.status == "done", outcome.reason
    return read_image(target, notify=silent)


# --- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("names", [".png .png", ".tif .png", ".png .tif"])
def test_lossless_files(tmp_path: Path, names: str, bands: int, dtype: Any, repeat: Upscaler) -> None:
    pixels = smooth(bands, dtype) | 1  # nothing is wholly transparent
    back = through(Picture(pixels), tmp_path, names, repeat).pixels
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, repeated(pixels))


@pytest.mark.parametrize("names", [".webp .webp", ".avif .avif", ".png .avif"])
@pytest.mark.parametrize("bands", [3, 4])
def test_files_of_the_web_without_loss(tmp_path: Path, names: str, bands: int, repeat: Upscaler) -> None:
    pixels = smooth(bands) | 1
    np.testing.assert_array_equal(through(Picture(pixels), tmp_path, names, repeat).pixels, repeated(pixels))


@pytest.mark.parametrize("bits", [10, 12])
def test_avif_keeps_its_bits(tmp_path: Path, bits: int, repeat: Upscaler) -> None:
    levels = np.random.default_rng(0).integers(0, 2**bits, (9, 14, 3), np.uint16)
    pixels = np.rint(levels * (65535 / (2**bits - 1))).astype(np.uint16)
    back = through(Picture(pixels, bits=bits), tmp_path, ".avif .avif", repeat)
    assert back.bits == bits
    np.testing.assert_array_equal(back.pixels >> (16 - bits), repeated(levels))


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_float_files_keep_values_outside_the_range(tmp_path: Path, bands: int, repeat: Upscaler) -> None:
    pixels = np.random.default_rng(0).uniform(-0.5, 4, (9, 14, bands)).astype(np.float32)
    if bands in (2, 4):
        pixels[..., -1] = np.random.default_rng(1).uniform(0.1, 1, (9, 14))
    back = through(Picture(pixels), tmp_path, ".tif .tif", repeat).pixels
    assert back.dtype == np.float32
    assert np.abs(back - repeated(pixels)).max() <= 2e-6
    np.testing.assert_array_equal(upscale(tmp_path / "a.tif", Repeat(), 2), back)


def test_floats_agree_with_integers(light: Upscaler) -> None:
    """0..1 is mapped onto itself, so floats become what 16 bits become, unrounded."""
    integers = smooth(3, np.uint16, 16, 20)
    floats = light.upscale(Picture((integers / np.float32(65535)).astype(np.float32))).pixels
    assert np.abs(floats * 65535 - light.upscale(Picture(integers)).pixels).max() <= 0.6


# --- colours -----------------------------------------------------------------------------------------------


def lab(pixels: np.ndarray, icc: bytes | None) -> np.ndarray:
    """The mean colour of pixels, as seen: CIE L*, a*, b*."""
    image = pyvips.Image.new_from_array(pixels, interpretation="srgb")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc or SRGB)
    return np.asarray(image.icc_import(embedded=True, pcs="lab").numpy()).mean((0, 1))


@pytest.mark.parametrize("profile", [P3, ADOBE_RGB], ids=["display-p3", "adobe-rgb"])
@pytest.mark.parametrize("names", [".png .png", ".tif .tif", ".png .jpg", ".webp .webp", ".avif .avif"])
def test_wide_gamut_colours_do_not_move(tmp_path: Path, names: str, profile: bytes, light: Upscaler) -> None:
    patches = np.array([[[255, 0, 0], [0, 200, 40]], [[30, 60, 250], [128, 128, 128]]], np.uint8)
    back = through(Picture(patches.repeat(16, 0).repeat(16, 1), icc=profile), tmp_path, names, light)
    assert back.icc == profile
    for row in range(2):
        for column in range(2):
            middle = back.pixels[32 * row + 12 : 32 * row + 20, 32 * column + 12 : 32 * column + 20]
            assert np.abs(middle.mean((0, 1)) - patches[row, column]).max() <= 3
            seen = lab(patches[row : row + 1, column : column + 1], profile)
            assert np.linalg.norm(lab(middle, back.icc) - seen) < 1.5
            if row + column < 2:  # a colour: taken for sRGB, it would be another
                assert np.linalg.norm(lab(middle, None) - seen) > 3


def disc(side: int = 24) -> np.ndarray:
    """A red disc with a soft edge on transparent black."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.clip(side * 0.35 - np.hypot(x, y) + 0.5, 0, 1)
    pixels = np.zeros((side, side, 4), np.uint8)
    pixels[..., 3] = np.rint(alpha * 255)
    pixels[pixels[..., 3] > 0, 0] = 255
    return pixels


@pytest.mark.parametrize("names", [".png .png", ".avif .avif"])
def test_a_red_disc_has_no_dark_fringe(tmp_path: Path, names: str, light: Upscaler) -> None:
    back = through(Picture(disc()), tmp_path, names, light).pixels
    visible = back[..., 3] > 0
    assert 0.3 < visible.mean() < 0.6
    plain = light.upscale(np.full((24, 24, 3), (255, 0, 0), np.uint8))  # no edge at all
    np.testing.assert_array_equal(back[visible][:, :3], plain[visible])
    assert (back[:6, :6, 3] == 0).all() and (back[20:28, 20:28, 3] == 255).all()
    mixed = light.upscale(np.ascontiguousarray(disc()[..., :3]))[visible]  # what it would be
    assert mixed[:, 0].min() < 200


def test_a_grey_disc_has_no_dark_fringe_in_sixteen_bits(light: Upscaler) -> None:
    pixels = disc()[..., [0, 3]].astype(np.uint16) * 257
    pixels[..., 0] //= 2
    back = light.upscale(pixels)
    visible = back[..., 1] > 0
    assert np.abs(back[visible][:, 0].astype(int) - 65535 // 2).max() <= 512


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (8, 8), (13, 30)])
def test_filling_keeps_what_is_visible(shape: tuple[int, int], dtype: Any) -> None:
    pixels = noise(*shape, 4).astype(dtype)
    pixels[..., 3] = noise(*shape) % 5 == 0
    pixels[-1, -1, 3] = 1
    visible = pixels[..., 3] > 0
    filled = fill_transparent(pixels)
    assert (filled.dtype, filled.shape) == (dtype, (*shape, 3))
    np.testing.assert_array_equal(filled[visible], pixels[visible][:, :3])
    low, high = pixels[visible][:, :3].min(0), pixels[visible][:, :3].max(0)
    assert (filled >= low).all() and (filled <= high).all()
    pixels[..., :3][visible] = 7, 200, 33
    np.testing.assert_array_equal(
        fill_transparent(pixels), np.broadcast_to(np.array([7, 200, 33], dtype), (*shape, 3))
    )


def test_filling_takes_the_nearest_colours_and_needs_a_visible_one() -> None:
    pixels = np.zeros((16, 64, 2), np.uint8)
    pixels[:, 0], pixels[:, 63] = (10, 255), (90, 255)
    filled = fill_transparent(pixels)[..., 0]
    assert (filled[:, :32] == 10).all() and (filled[:, 32:] == 90).all()
    pixels[..., 1], pixels[..., 0] = 0, noise(16, 64)
    np.testing.assert_array_equal(fill_transparent(pixels), pixels[..., :1])


# --- animations, options, interruption ---------------------------------------------------------------------


def moving() -> Animation:
    frames = []
    for left in (2, 8, 14):
        pixels = np.zeros((16, 24, 4), np.uint8)
        pixels[4:12, left : left + 8] = 255, 90, 10, 255
        frames.append(Picture(pixels))
    return Animation(frames, [50, 100, 210], 3)


@pytest.mark.parametrize("names", [".gif .gif", ".gif .webp", ".webp .gif", ".webp .webp"])
def test_animations_are_done_frame_by_frame(tmp_path: Path, names: str, repeat: Upscaler) -> None:
    through(moving(), tmp_path, names, repeat)
    after = read_animation(tmp_path / f"b{names.split()[1]}")
    assert (after.delays, after.loop) == ([50, 100, 210], 3)
    for frame, before in zip(after.frames, moving().frames, strict=True):
        expected = repeated(before.pixels)
        np.testing.assert_array_equal(frame.pixels[..., 3], expected[..., 3])
        shown = expected[..., 3] > 0
        np.testing.assert_array_equal(frame.pixels[shown], expected[shown])


def test_of_an_animation_a_still_format_gets_the_first_frame(tmp_path: Path, repeat: Upscaler) -> None:
    write_image(moving(), tmp_path / "a.gif", notify=silent)
    notes = upscale_file(Job(tmp_path / "a.gif", tmp_path / "a.png"), repeat).notes
    assert notes == (f"{tmp_path / 'a.gif'}: the first of 3 pages is read",)
    expected = repeated(moving().frames[0].pixels)
    shown = expected[..., 3] > 0
    back = read_image(tmp_path / "a.png").pixels
    np.testing.assert_array_equal(back[shown], expected[shown])


def test_a_still_gif_stays_a_gif(tmp_path: Path, repeat: Upscaler) -> None:
    still = moving().frames[0]
    back = through(still, tmp_path, ".gif .gif", repeat).pixels
    shown = repeated(still.pixels)[..., 3] > 0
    np.testing.assert_array_equal(back[shown], repeated(still.pixels)[shown])


def test_metadata_goes_along_or_not(tmp_path: Path, repeat: Upscaler) -> None:
    write_image(
        Picture(smooth(3), icc=P3, xmp=b"<x>place</x>", iptc=b"\x1c\x02\x78\0\4here"), tmp_path / "a.jpg"
    )
    for strip in (False, True):
        target = tmp_path / f"{strip}.jpg"
        choices = Choices(encoding=Encoding(strip_metadata=strip))
        upscale_file(Job(tmp_path / "a.jpg", target), repeat, choices)
        assert read_image(target).icc == P3
        assert (b"place" in target.read_bytes(), b"here" in target.read_bytes()) == (not strip, not strip)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".tif"])
def test_a_failed_or_interrupted_write_leaves_the_folder_as_it_was(
    tmp_path: Path, suffix: str, repeat: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(Picture(smooth(3)), tmp_path / "a.png")
    job = Job(tmp_path / "a.png", tmp_path / f"b{suffix}")
    for error in (KeyboardInterrupt(), OSError(28, "No space left on device")):

        def broken(
            image: Any, kind: str, file: BinaryIO, *rest: object, error: BaseException = error
        ) -> None:
            file.write(b"half")
            file.flush()
            raise error

        monkeypatch.setattr("esc_sr.image.write._save", broken)
        for overwrite, before in ((False, None), (True, b"kept")):
            if before:
                on_disk(job.target).write_bytes(before)
            choices = Choices("overwrite" if overwrite else "refuse")
            if isinstance(error, OSError):
                assert "No space left" in upscale_file(job, repeat, choices).reason
            else:
                with pytest.raises(KeyboardInterrupt):
                    upscale_file(job, repeat, choices)
            assert (
                sorted(path.name for path in tmp_path.iterdir()) == ["a.png", f"b{suffix}"][: 1 + overwrite]
            )
            assert not before or job.target.read_bytes() == before
            on_disk(job.target).unlink(missing_ok=True)
