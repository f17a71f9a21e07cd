"""The command line as a process: Ctrl-C before it is there, and streams that cannot be written."""

import os
import signal
from pathlib import Path

import pytest

from esc_sr.image import read_image
from test_cli import files, picture, start


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="SIGINT ends no process there")
@pytest.mark.parametrize(
    ("module", "code"), [("typing", -signal.SIGINT), ("typer", -signal.SIGINT), ("torch", 130)]
)
def test_ctrl_c_during_the_imports_is_quiet(here: Path, module: str, code: int) -> None:
    picture("a.png")
    script = f"""
import runpy, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv[:] = ["esc-sr", "upscale", "a.png"]
runpy.run_module("esc_sr", run_name="__main__")
"""
    process = start("-c", script)
    assert process.communicate(timeout=60) == ("", "esc-sr: interrupted\n" if code > 0 else "")
    assert process.returncode == code and files(here) == ["a.png"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk is full")
@pytest.mark.parametrize(
    "command",
    [("--version",), ("--help",), ("models",), ("upscale", "a.png", "b.png"), ("upscale", "no.png")],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_that_is_full_is_one_line(
    here: Path, command: tuple[str, ...], unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    picture("a.png")
    picture("b.png")
    options = ("--quiet", "--json", "--threads", "1") if "upscale" in command else ()
    with open("/dev/full", "wb") as full:
        process = start("-m", "esc_sr", *command, *options, stdout=full.fileno())
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == "esc-sr: error: standard output: No space left on device\n"
    if "a.png" in command:
        assert read_image("a_2x.png").pixels.shape == (40, 48, 3)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk is full")
def test_standard_error_that_is_full_costs_no_picture(here: Path) -> None:
    picture("a.png")
    with open("/dev/full", "wb") as full:
        process = start("-m", "esc_sr", "upscale", "a.png", "no.png", stderr=full.fileno())
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and out.startswith("a.png 24x20 -> a_2x.png")
    assert files(here) == ["a.png", "a_2x.png"]


def test_streams_that_are_closed_cost_no_picture(here: Path) -> None:
    """A program may be started without standard input, output and error, by a scheduler for example."""
    picture("a.png")
    script = (
        "import os, runpy, sys; os.closerange(0, 3); sys.stdin = sys.stdout = sys.stderr = None;"
        "sys.argv[:] = ['esc-sr', 'upscale', 'a.png']; runpy.run_module('esc_sr', run_name='__main__')"
    )
    process = start("-c", script)
    assert process.communicate(timeout=60) == ("", "") and process.returncode == 0
    assert read_image("a_2x.png").pixels.shape == (40, 48, 3)


@pytest.mark.skipif(os.name == "nt", reason="no shell closes standard output there")
def test_a_picture_for_standard_output_that_is_closed_is_one_line(here: Path) -> None:
    picture("a.png")
    script = (
        "import os, sys; os.close(1); os.execv(sys.executable,"
        "[sys.executable, '-m', 'esc_sr', 'upscale', 'a.png', '-o', '-'])"
    )
    process = start("-c", script)
    said = "esc-sr: error: -o -: standard output is closed; redirect it into a file or a program\n"
    assert process.communicate(timeout=60) == ("", said) and process.returncode == 2
