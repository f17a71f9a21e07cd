"""`esc-sr upscale` with standard input and output, patterns and addresses in place of files."""

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from esc_sr.cli.main import app
from esc_sr.errors import ImageError
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.image import Picture, decode_animation, decode_image, read_image, write_image
from esc_sr.upscaling.files import _write_stdout, header_of
from esc_sr.upscaling.names import Names
from esc_sr.upscaling.streams import find_stream_job
from esc_sr.weights import save
from pictures import SRGB, noise, pillow

PIXELS = noise(20, 24, 3)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny.safetensors and a.png."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save(ESC(ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)), "tiny.safetensors")
    write_image(Picture(PIXELS, icc=SRGB, dpi=(300, 300)), "a.png")
    return tmp_path


def upscale(*arguments: str, given: bytes | None = None) -> tuple[int, bytes, str]:
    options = ["upscale", *arguments, "-n", "tiny.safetensors"]
    result = CliRunner().invoke(app, options, input=given, catch_exceptions=False)
    return result.exit_code, result.stdout_bytes, result.stderr


def expected(source: str = "a.png") -> np.ndarray:
    assert upscale(source, "-o", "expected.tif", "--overwrite", "--quiet")[0] == 0
    return read_image("expected.tif").pixels


def test_through_standard_input_and_output() -> None:
    code, out, err = upscale("-", "-o", "-", given=Path("a.png").read_bytes())
    assert code == 0
    picture = decode_image(out, "out")
    np.testing.assert_array_equal(picture.pixels, expected())
    assert picture.icc == SRGB and picture.dpi == pytest.approx((300, 300), abs=0.01)
    assert err.splitlines()[-1].startswith("<stdin> 24x20 -> <stdout>.png 48x40, tiny.safetensors x2, ")
    assert sorted(os.listdir()) == ["a.png", "expected.tif", "tiny.safetensors"]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_the_format_is_that_of_the_input(format: str) -> None:
    code, out, _ = upscale("-", "-o", "-", given=pillow(Image.fromarray(PIXELS), format))
    assert code == 0
    with Image.open(io.BytesIO(out)) as image:
        assert image.format == (format if format != "BMP" else "PNG")
        assert image.size == (48, 40)


def test_an_animation_stays_one() -> None:
    frames = [Image.fromarray(noise(8, 9, 3) // 2 + 40 * step) for step in range(3)]
    data = pillow(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert len(decode_animation(upscale("-", "-o", "-", given=data)[1], "a").frames) == 3
    code, out, err = upscale("-", "-o", "-", "-f", "png", given=data)
    assert code == 0 and decode_image(out, "a").pixels.shape[:2] == (16, 18)
    assert "the first of 3 pages is read" in err


def test_one_of_the_two_is_a_file() -> None:
    code, out, _ = upscale("-", "-o", "b.png", given=Path("a.png").read_bytes())
    assert code == 0 and out.startswith(b"<stdin> 24x20 -> b.png 48x40")
    np.testing.assert_array_equal(read_image("b.png").pixels, expected())
    code, out, err = upscale("a.png", "-o", "-", "-f", "tiff", "--quiet")
    assert (code, err) == (0, "")
    np.testing.assert_array_equal(decode_image(out, "a").pixels, expected())
    before = Path("b.png").read_bytes()
    code, _, err = upscale("-", "-o", "b.png", given=Path("a.png").read_bytes())
    assert code == 2 and "--overwrite replaces it" in err and Path("b.png").read_bytes() == before
    code, _, err = upscale("-", "-o", "b.png", "--skip-existing", given=b"")
    assert code == 0 and "1 of 1 skipped" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-",), "- stands for one picture: give one input, and -o FILE or -o -"),
        (("-", "a.png", "-o", "-"), "- stands for one picture"),
        (("-", "-o", "."), "- stands for one picture"),
        ((".", "-o", "-"), ".: a folder, or several files"),
        (("*", "-o", "-"), "no picture format ends in '.safetensors'"),
        (("no.png", "-o", "-"), "no.png: no such file"),
        (("-", "-o", "x.txt"), "x.txt: neither a folder"),
        (("-", "-o", "no/x.png"), "no: no such folder"),
        (("-", "-o", "-", "-f", "bmp"), "no format is called 'bmp'"),
        (("-", "-o", "-", "--name", "{stem}"), "nothing for --name to name"),
        (("-", "-o", "-", "--json"), "--json and -o - exclude each other"),
        (("-", "-o", "-"), "(the file is empty)"),
        ((os.devnull, "-o", "-"), f"{os.devnull}: a pipe or device; send it into standard input, which is -"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], said: str) -> None:
    code, out, err = upscale(*arguments, given=b"")
    assert (code, out) == (2, b"") and said in err and err.count("\n") == 1
    assert sorted(os.listdir()) == ["a.png", "tiny.safetensors"]


def test_of_what_is_no_picture_the_beginning_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            self.taken += len(buffer)
            assert self.taken < 2**20, "reads on"
            buffer[:] = b"y" * len(buffer)
            return len(buffer)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Endless())))
    job = find_stream_job(["-"], "out.png", Names(), None, "refuse").jobs[0]
    with pytest.raises(ImageError, match="another kind of file"):
        header_of(job)


def test_damage_sends_nothing() -> None:
    code, out, err = upscale("-", "-o", "-", given=Path("a.png").read_bytes()[:-40])
    assert (code, out) == (2, b"") and "cannot read <stdin>: not a complete PNG" in err


def test_standard_output_that_takes_nothing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(data: bytes) -> int:
        raise OSError(28, "No space left on device")

    class Full(io.BytesIO):
        write = staticmethod(refuse)  # type: ignore[assignment]

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Full()))
    with pytest.raises(ImageError, match="^cannot write <stdout>.png: No space left on device$"):
        _write_stdout(b"picture", Path("<stdout>.png"))


def test_patterns_that_no_shell_has_expanded() -> None:
    for name in ("b1.png", "b2.png", "deep/c.png", "odd[1].png"):
        Path(name).parent.mkdir(exist_ok=True)
        write_image(Picture(PIXELS), name)
    assert upscale("b*.png", "-o", "out")[0] == 0
    assert sorted(os.listdir("out")) == ["b1_2x.png", "b2_2x.png"]
    assert upscale("**/c.png", "-o", "one.png")[0] == 0 and Path("one.png").exists()
    assert upscale("odd[1].png")[0] == 0 and Path("odd[1]_2x.png").exists()
    code, _, err = upscale("no*.png", "a.png", "-o", "out")
    assert code == 1 and "error: no*.png: no file has a name like this\n" in err


def test_addresses() -> None:
    write_image(Picture(PIXELS), "two words ü.png")
    assert upscale(Path("two words ü.png").absolute().as_uri())[0] == 0
    assert Path("two words ü_2x.png").exists()
    code, _, err = upscale("nowhere://example/a.png?key=secret")
    assert code == 2 and err.count("\n") == 1 and "secret" not in err
    assert "nowhere://example/a.png: no kind of address begins with nowhere://" in err
