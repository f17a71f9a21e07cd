"""Damaged files of every format, in processes of their own: an error or a picture, never a crash or a hang.

Run as a script, this file is such a process: it reads damaged files from its standard input and says what
became of each.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from esc_sr.errors import ImageError
from esc_sr.image import Animation, Encoding, Picture, decode_animation, write_image
from esc_sr.image.containers import kind_of
from esc_sr.image.plugins import PLUGIN_KINDS
from pictures import pillow, silent, smooth

MUTATIONS = 50
"""Of each of the files below."""

TIME = 60
"""Seconds for all mutations of a format, which need a few."""

RGB, RGBA = Image.fromarray(smooth(3, height=24, width=31)), Image.fromarray(smooth(4, height=24, width=31))
DEEP = Picture(smooth(3, np.uint16, 24, 31))
MOVING = Animation(
    [Picture(np.roll(smooth(4, height=12, width=16), left, 1)) for left in (0, 3, 6)], [40] * 3, 0
)
FILES: dict[str, tuple[str, Picture | Animation] | Callable[[], bytes]] = {
    "png": lambda: pillow(RGBA, "PNG"),
    "png palette": lambda: pillow(RGB.convert("P"), "PNG", transparency=3),
    "png 16 bit": (".png", DEEP),
    "jpeg": lambda: pillow(RGB, "JPEG"),
    "jpeg cmyk": lambda: pillow(RGB.convert("CMYK"), "JPEG"),
    "jpeg progressive": lambda: pillow(RGB, "JPEG", progressive=True),
    "webp": lambda: pillow(RGBA, "WEBP"),
    "webp lossless": lambda: pillow(RGBA, "WEBP", lossless=True),
    "webp animated": (".webp", MOVING),
    "gif": lambda: pillow(RGB, "GIF"),
    "gif animated": (".gif", MOVING),
    "tiff": lambda: pillow(RGB, "TIFF"),
    "tiff deflate": (".tif", DEEP),
    "tiff lzw": lambda: pillow(RGB, "TIFF", compression="tiff_lzw"),
    "tiff jpeg": lambda: pillow(RGB, "TIFF", compression="jpeg"),
    "tiff float": (".tif", Picture((DEEP.pixels / np.float32(65535)).astype(np.float32))),
    "avif": lambda: pillow(RGBA, "AVIF"),
    "avif 10 bit": (".avif", DEEP),
    "bmp": lambda: pillow(RGB, "BMP"),
    "bmp palette": lambda: pillow(RGB.quantize(16), "BMP"),
    "ico": lambda: pillow(RGBA, "ICO", sizes=[(16, 16), (31, 24)]),
    "ico of bmp": lambda: pillow(RGBA, "ICO", sizes=[(16, 16), (31, 24)], bitmap_format="bmp"),
    "tga": lambda: pillow(RGB, "TGA"),
    "tga rle": lambda: pillow(RGBA, "TGA", compression="tga_rle"),
    "ppm": lambda: pillow(RGB, "PPM"),
    "ppm of text": lambda: b"P3 3 2 255 " + b"1 22 255 " * 6,
    "ppm 16 bit": lambda: b"P6 9 9 65535\n" + bytes(range(243)) * 2,
    "jp2": lambda: pillow(RGBA, "JPEG2000"),
    "jp2 stream": lambda: pillow(RGB, "JPEG2000", no_jp2=True),
    "heic": lambda: (Path(__file__).parent / "data/heic/turned.heic").read_bytes(),
    "heic 10 bit": lambda: (Path(__file__).parent / "data/heic/ten_bits.heic").read_bytes(),
}


def damage(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """One mutation, and what it is called."""
    kind = chance.choice(["truncate", "flip", "delete", "insert", "zero"])
    start = chance.randrange(len(data))
    end = min(len(data), start + chance.randint(1, 40))
    if kind == "truncate":
        return kind, data[:start]
    if kind == "delete":
        return kind, data[:start] + data[end:]
    if kind == "insert":
        return kind, data[:start] + chance.randbytes(end - start) + data[start:]
    if kind == "zero":
        return kind, data[:start] + bytes(end - start) + data[end:]
    flipped = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8])):
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return kind, bytes(flipped)


def intact(name: str, folder: Path) -> bytes:
    made = FILES[name]
    if not isinstance(made, tuple):
        return made()
    suffix, picture = made
    write_image(picture, folder / f"a{suffix}", encoding=Encoding(quality=80), notify=silent, overwrite=True)
    return (folder / f"a{suffix}").read_bytes()


def judge(data: bytes) -> str:
    """Decode and write in this process: "error", "picture", or what is wrong."""
    try:
        animation = decode_animation(data, "a", notify=silent)
    except ImageError as error:
        return "error" if str(error).isprintable() else f"no single line: {error!r}"
    if kind_of(data) in PLUGIN_KINDS:
        return "picture"
    header = pyvips.Image.new_from_buffer(data, "")
    sizes = {frame.pixels.shape[:2] for frame in animation.frames}
    told = {(header.height, header.width), (header.width, header.height)}  # upright or turned
    if len(sizes) > 1 or not sizes <= told:
        return f"{sizes}, and the header says {told}"
    with tempfile.TemporaryDirectory() as folder:  # whatever the profile and the metadata are
        write_image(animation, Path(folder, "a.webp"), notify=silent)
    return "picture"


def judge_apart(files: list[bytes]) -> list[str]:
    """Have files judged by one process after the other, each up to the first file that ends it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, __file__]
    results: list[str] = []
    while len(results) < len(files):
        lines = "\n".join(data.hex() for data in files[len(results) :])
        try:
            run = subprocess.run(
                command, input=lines, capture_output=True, text=True, timeout=TIME, env=environment
            )
            output, ending = run.stdout, f"exit code {run.returncode}"
            if run.stderr:
                ending = f"said: {run.stderr.strip().splitlines()[-1]}"
        except subprocess.TimeoutExpired as error:
            output, ending = (error.stdout or b"").decode(), f"no end in {TIME} s"
        results += [json.loads(line) for line in output.splitlines()]
        if len(results) < len(files):
            results.append(ending)
        elif ending != "exit code 0":
            results[-1] = ending
    return results


@pytest.mark.parametrize(
    "format", ["png", "jpeg", "webp", "gif", "tiff", "avif", "bmp", "ico", "tga", "ppm", "jp2", "heic"]
)
def test_damaged_files(format: str, tmp_path: Path) -> None:
    if format == "heic":
        pytest.importorskip("pi_heif")
    chance = random.Random(format)
    mutations = []
    for name in FILES:
        if name.split()[0] == format:
            data = intact(name, tmp_path)
            mutations += [("nothing", data), *(damage(data, chance) for _ in range(MUTATIONS))]
    results = judge_apart([damaged for _, damaged in mutations])
    fitting = {"nothing": ["picture"], "truncate": ["error"]}
    if format in ("ico", "tga"):  # further icons, and a footer, may be missing
        del fitting["truncate"]
    for (kind, damaged), result in zip(mutations, results, strict=True):
        assert result in fitting.get(kind, ["error", "picture"]), (kind, damaged.hex())
    assert {kind for kind, _ in mutations} == {"nothing", "truncate", "flip", "delete", "insert", "zero"}
    assert results.count("error") > len(results) / 4


def test_there_are_enough_of_them() -> None:
    assert len(FILES) * MUTATIONS >= 500


@pytest.mark.parametrize(
    ("misdeed", "said"),
    [
        ("os.abort()", "exit code -6"),
        ("raise ZeroDivisionError", "said: ZeroDivisionError"),
        ("time.sleep(99)", "no end in 3 s"),
        ("sys.stderr.write('hello')", "said: hello"),
    ],
)
def test_a_decoder_that_misbehaves_is_caught(
    misdeed: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of three files ends its process, or makes it talk; the third is judged nevertheless."""
    script = tmp_path / "judge.py"
    script.write_text(
        "import json, os, sys, time\n"
        "for line in sys.stdin:\n"
        f"    if line.strip() == b'bad'.hex(): {misdeed}\n"
        "    print(json.dumps('error'), flush=True)\n"
    )
    monkeypatch.setitem(globals(), "__file__", str(script))
    monkeypatch.setitem(globals(), "TIME", 3)
    results = judge_apart([b"one", b"bad", b"two"])
    assert said in results
    assert len(results) == 3 and "error" in results


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(judge(bytes.fromhex(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
