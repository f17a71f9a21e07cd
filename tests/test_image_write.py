"""Picture files written: formats, options, and never half a file."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import esc_sr.image.write
from esc_sr.errors import ImageError, UsageError
from esc_sr.image import FORMATS, MAX_SIDE, Animation, Encoding, Picture, format_of, read_image, write_image
from pictures import SUFFIXES, noise, silent, smooth, view

WRITABLE = [*SUFFIXES, ".gif"]


def test_formats_by_name() -> None:
    assert [format_of(f"x/a.b{suffix.upper()}") for suffix in FORMATS] == list(FORMATS.values())
    for name in ("a", "a.bmp", ".png", "a.png.txt"):
        with pytest.raises(ImageError, match=r"use \.png, \.jpg"):
            format_of(name)


@pytest.mark.parametrize("format", ["png", "jpeg", "jpg", "webp", "tif", "tiff", "avif", "gif", "PNG"])
def test_an_explicit_format_wins(tmp_path: Path, format: str) -> None:
    write_image(Picture(smooth(3)), tmp_path / "a.dat", format=format, notify=silent)
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


@pytest.mark.parametrize("suffix", WRITABLE)
def test_a_full_disk_leaves_nothing(tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    resource = pytest.importorskip("resource")
    (tmp_path / f"old{suffix}").write_bytes(b"kept")
    animation = Animation([Picture(noise(90, 90, 3)), Picture(noise(90, 90, 3))], [50, 50], 0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name in ("new", "old"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # as root, no other disk can be full
        try:
            with pytest.raises(ImageError, match=f"cannot write .*: {os.strerror(errno.EFBIG)}$"):
                write_image(animation, tmp_path / f"{name}{suffix}", overwrite=True, notify=silent)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == [f"old{suffix}"]
    assert (tmp_path / f"old{suffix}").read_bytes() == b"kept"
    assert capfd.readouterr() == ("", "")


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        assert len(os.listdir(tmp_path)) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(esc_sr.image.write, "_save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_image(Picture(smooth(3)), tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".gif"])
def test_too_large_for_the_format(tmp_path: Path, suffix: str) -> None:
    limit = MAX_SIDE[format_of(f"a{suffix}")]
    write_image(Picture(np.zeros((1, limit, 1), np.uint8)), tmp_path / f"a{suffix}", notify=silent)
    assert read_image(tmp_path / f"a{suffix}").pixels.shape[1] == limit
    with pytest.raises(ImageError, match=f"at most {limit} a side; choose png or tiff"):
        write_image(Picture(np.zeros((limit + 1, 1, 1), np.uint8)), tmp_path / f"b{suffix}")
    assert os.listdir(tmp_path) == [f"a{suffix}"]


def test_written_pixels_are_not_kept_in_memory(tmp_path: Path) -> None:
    import gc
    import weakref

    class Watched(np.ndarray):
        """An array that can be watched: plain ones cannot be referred to weakly."""

    for suffix in WRITABLE:
        pixels = smooth(4).view(Watched)
        seen = weakref.ref(pixels)
        write_image(Picture(pixels), tmp_path / f"a{suffix}", notify=silent)
        del pixels
        gc.collect()
        assert seen() is None


def test_ctrl_c_while_encoding_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import numpy as np; from esc_sr.image import Picture, write_image\n"
        "pixels = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)\n"
        "write_image(Picture(pixels), 'a.png')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(esc_sr.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    while not any(file.stat().st_size for file in tmp_path.iterdir()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert said.startswith("Traceback") and said.endswith("\nKeyboardInterrupt\n")
    assert os.listdir(tmp_path) in ([], ["a.png"])  # nothing, or all of it
    if os.listdir(tmp_path):
        assert read_image(tmp_path / "a.png").pixels.shape == (1500, 1500, 3)


# --- options -----------------------------------------------------------------------------------------------


def test_options_are_checked() -> None:
    for options, said in (
        ({"quality": 0}, "1 to 100"),
        ({"quality": 101}, "1 to 100"),
        ({"subsampling": "4:2:2"}, "one of auto, 4:4:4, 4:2:0"),
        ({"background": "pink"}, "white, black or #rrggbb"),
        ({"background": "#12345"}, "white, black or #rrggbb"),
    ):
        with pytest.raises(UsageError, match=said):
            Encoding(**options)


@pytest.mark.parametrize(("suffix", "default"), [(".jpg", 95), (".webp", 95), (".avif", 90)])
def test_quality(tmp_path: Path, suffix: str, default: int) -> None:
    pixels, sizes, errors = smooth(3) ^ (noise(37, 50, 3) >> 3), [], []
    for quality in (20, 60, default):
        write_image(
            Picture(pixels), tmp_path / f"{quality}{suffix}", encoding=Encoding(quality, subsampling="4:2:0")
        )
        sizes.append((tmp_path / f"{quality}{suffix}").stat().st_size)
        errors.append(np.abs(read_image(tmp_path / f"{quality}{suffix}").pixels.astype(int) - pixels).mean())
    assert sizes == sorted(set(sizes))
    assert errors == sorted(set(errors), reverse=True)
    for name, encoding in (("a", Encoding()), ("b", Encoding(default))):
        write_image(Picture(pixels), tmp_path / f"{name}{suffix}", encoding=encoding)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".avif"])
def test_subsampling(tmp_path: Path, suffix: str) -> None:
    def halved(subsampling: str) -> bool:
        """Whether the file says that its colours have half the width and height."""
        write_image(
            Picture(smooth(3)),
            tmp_path / f"a{suffix}",
            overwrite=True,
            encoding=Encoding(subsampling=subsampling),
        )
        data = (tmp_path / f"a{suffix}").read_bytes()
        if suffix == ".jpg":
            return data[data.index(b"\xff\xc0") + 11] == 0x22  # sampling factors of Y
        return data[data.index(b"av1C") + 6] & 0x0C == 0x0C

    assert [halved(subsampling) for subsampling in ("auto", "4:4:4", "4:2:0")] == [False, False, True]


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_lossless(tmp_path: Path, suffix: str) -> None:
    pixels = noise(20, 30, 4)
    pixels[:10, :, 3] = 0  # invisible colours as well
    write_image(Picture(pixels), tmp_path / f"a{suffix}", encoding=Encoding(lossless=True))
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}").pixels, pixels)


def test_what_a_format_does_not_know_is_said(tmp_path: Path) -> None:
    for suffix, encoding, said in (
        (".jpg", Encoding(lossless=True), ["jpeg is never lossless; webp and avif can be"]),
        (".webp", Encoding(subsampling="4:4:4"), ["webp is always 4:2:0 unless it is lossless"]),
        (".webp", Encoding(subsampling="4:4:4", lossless=True), []),
        (".png", Encoding(5, "4:2:0", True, "black", True), []),
        (".gif", Encoding(), ["gif holds 256 colours and no half-transparent pixels; png and webp do"]),
    ):
        heard: list[str] = []
        write_image(
            Picture(smooth(3)),
            tmp_path / f"a{suffix}",
            overwrite=True,
            encoding=encoding,
            notify=heard.append,
        )
        assert heard == said


@pytest.mark.parametrize(
    ("suffix", "dtype", "bits", "said"),
    [
        (".jpg", np.uint16, None, "jpeg holds 8 of the picture's 16 bits; png and tiff keep all"),
        (".jpg", np.uint16, 10, "jpeg holds 8 of the picture's 10 bits; png and tiff keep all"),
        (".webp", np.uint16, None, "webp holds 8 of the picture's 16 bits; png and tiff keep all"),
        (".avif", np.uint16, None, "avif holds 10 of the picture's 16 bits; png and tiff keep all"),
        (".avif", np.uint16, 12, None),
        (".png", np.float32, None, "png holds 16 bits a channel and no floats: rounded; tiff keeps them"),
        (".jpg", np.float32, None, "jpeg holds 8 bits a channel and no floats: rounded; tiff keeps them"),
        (".tif", np.float32, None, None),
        (".png", np.uint16, None, None),
        (".jpg", np.uint8, None, None),
    ],
)
def test_bits_that_are_lost_are_said(
    tmp_path: Path, suffix: str, dtype: type, bits: int | None, said: str | None
) -> None:
    heard: list[str] = []
    pixels = smooth(3, np.uint16).astype(dtype) / dtype(65535 if dtype == np.float32 else 1)
    write_image(Picture(pixels.astype(dtype), bits=bits), tmp_path / f"a{suffix}", notify=heard.append)
    assert heard == [said] * (said is not None)


@pytest.mark.parametrize(
    ("background", "red", "grey"),
    [
        ("white", (191, 127, 127), (177,)),
        ("black", (64, 0, 0), (50,)),
        ("#0080ff", (64, 64, 127), (50, 114, 177)),
    ],
)
def test_background(tmp_path: Path, background: str, red: tuple[int, ...], grey: tuple[int, ...]) -> None:
    for colour, expected in (((128, 0, 0, 128), red), ((100, 128), grey)):
        for dtype, factor in ((np.uint8, 1), (np.uint16, 257)):
            pixels = np.full((16, 16, len(colour)), np.array(colour) * factor, dtype)
            heard: list[str] = []
            write_image(
                Picture(pixels),
                tmp_path / "a.jpg",
                overwrite=True,
                encoding=Encoding(100, background=background),
                notify=heard.append,
            )
            back = read_image(tmp_path / "a.jpg").pixels
            assert back.shape[2] == len(expected)
            assert np.abs(back - np.array(expected)).max() <= 2
            bits = ["jpeg holds 8 of the picture's 16 bits; png and tiff keep all"] * (factor > 1)
            assert heard == [f"jpeg holds no transparency: laid on {background}", *bits]


def test_an_opaque_picture_is_laid_on_nothing(tmp_path: Path) -> None:
    write_image(Picture(np.full((4, 4, 4), 255, np.uint8)), tmp_path / "a.jpg")  # a warning would be an error
    assert read_image(tmp_path / "a.jpg").pixels.shape == (4, 4, 3)
