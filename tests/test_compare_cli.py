"""`esc-sr compare`: two files, one file, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from esc_sr.cli.main import app
from esc_sr.image import Picture, write_image
from esc_sr.metrics import compare, luma
from esc_sr.niqe import niqe

RNG = np.random.default_rng(0)
HR = RNG.integers(0, 256, (100, 196, 3), np.uint8)
SR = np.clip(HR + RNG.normal(0, 20, HR.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with hr.png, sr.png, small.png and bad.png."""
    monkeypatch.chdir(tmp_path)
    for name, pixels in {"hr": HR, "sr": SR, "small": HR[:90]}.items():
        write_image(Picture(pixels), f"{name}.png")
    Path("bad.png").write_bytes(b"not a picture")
    return tmp_path


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["compare", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_two_files_for_people(here: Path) -> None:
    scores = compare(Path("sr.png"), Path("hr.png"), 3)
    code, out, err = run("sr.png", "hr.png", "--border", "3")
    assert (code, err) == (0, "")
    names = ["PSNR on Y, dB", "SSIM on Y", "PSNR on RGB, dB"]
    expected = [f"{name:<15} {value:.4f}" for name, value in zip(names, scores, strict=True)]
    assert out.splitlines() == expected


def test_two_files_for_machines(here: Path) -> None:
    code, out, _ = run("sr.png", "hr.png", "--border", "3", "--json")
    document = json.loads(out)
    scores = compare(Path("sr.png"), Path("hr.png"), 3)
    assert code == 0
    assert document == {"sr": "sr.png", "hr": "hr.png", "border": 3, **scores._asdict()}


def test_equal_files_are_infinitely_near(here: Path) -> None:
    assert "PSNR on Y, dB   inf\n" in run("hr.png", "hr.png")[1]
    document = json.loads(run("hr.png", "hr.png", "--json")[1])
    assert (document["psnr"], document["rgb_psnr"]) == (None, None)
    assert math.isclose(document["ssim"], 1)


def test_one_file_has_its_niqe(here: Path) -> None:
    expected = niqe(luma(HR), 2)
    assert run("hr.png", "--border", "2") == (0, f"NIQE on Y       {expected:.4f}\n", "")
    document = json.loads(run("hr.png", "--border", "2", "--json")[1])
    assert document == {"sr": "hr.png", "hr": None, "border": 2, "niqe": pytest.approx(expected)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sr.png", "small.png"), "differ in shape"),
        (("sr.png", "hr.png", "--border", "50"), "11 x 11"),
        (("sr.png", "hr.png", "--border", "-1"), "border -1"),
        (("small.png",), "two patches"),
        (("bad.png", "hr.png"), "bad.png"),
        (("sr.png", "missing.png"), "missing.png"),
        (("missing.png",), "missing.png"),
    ],
)
def test_what_cannot_be_measured_is_one_line(here: Path, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("esc-sr: error: ") and said in err and err.count("\n") == 1


def test_help_tells_its_options(here: Path) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(word in out for word in ("--border", "--json", "HR", "NIQE"))
