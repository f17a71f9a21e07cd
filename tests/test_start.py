"""What is imported when esc-sr starts: nothing that the work at hand does not need."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from esc_sr.image import Picture, write_image

SOURCE = Path(__file__).parents[1] / "src"
COMPILER = {"torch._dynamo", "torch._inductor", "torch.onnx", "sympy"}
"""What torch compiles with, and imports at once for some harmless calls: one and a half seconds."""


def imported(*arguments: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    script = (
        "import atexit, sys; from esc_sr.__main__ import main; sys.argv = ['esc-sr', *sys.argv[1:]];"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return set(ended.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "command", ["--help", "upscale --help", "models", "models esc-light-x2 --json"], ids=str.split
)
def test_what_needs_no_torch_imports_none(command: str) -> None:
    assert not {"torch", "numpy", "pyvips"} & imported(*command.split())


@pytest.mark.parametrize("model", ["esc-light", "esc-fp", "esc-lte"])
def test_upscaling_imports_no_compiler(model: str, tmp_path: Path) -> None:
    write_image(Picture(np.zeros((4, 4, 3), np.uint8)), tmp_path / "a.png")
    found = imported("upscale", str(tmp_path / "a.png"), "-n", model)
    assert "torch" in found and not COMPILER & found and not {"matplotlib", "fsspec"} & found


def test_loading_imports_no_compiler() -> None:
    script = "import sys, esc_sr; esc_sr.load('esc-light', scale=2); print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True
    )
    assert not COMPILER & set(ended.stdout.split()), ended.stderr


def test_what_a_file_is_compared_with_imports_no_compiler() -> None:
    script = (
        "import sys; from esc_sr import families\n"
        "for family in families.FAMILIES:\n"
        "    name = next(iter(family.presets))\n"
        "    families.blank(families.preset(name, families.scales(name)[0]))\n"
        "print(*sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True
    )
    assert "torch" in ended.stdout.split() and not COMPILER & set(ended.stdout.split()), ended.stderr
