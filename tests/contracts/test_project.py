"""What the project says of itself is true."""

import re
import runpy
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import esc_sr
from esc_sr.image import read_image

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FRESH = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)


def test_readme_starts_with_two_commands_for_a_fresh_machine() -> None:
    upscale, test = FRESH
    assert README.index(test) < 1800  # the first screen
    assert upscale.endswith(".venv/bin/esc-sr upscale examples/harbour.png")
    assert test.endswith(".venv/bin/python -m pytest -n auto")
    assert all("pip install -c constraints.txt" in command for command in FRESH)


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a git checkout")
def test_the_first_command_leaves_nothing_untracked() -> None:
    made = [".venv/bin/esc-sr", "build/lib", "src/esc_sr.egg-info/PKG-INFO", "examples/harbour_2x.png"]
    ignored = subprocess.run(["git", "check-ignore", *made], cwd=ROOT, capture_output=True, text=True)
    assert ignored.stdout.split() == made


def test_ci_finds_the_test_command_in_the_readme() -> None:
    pattern = re.search(r"grep -m1 '(.*)' README\.md", (ROOT / ".ci" / "run").read_text())
    assert pattern
    found = [line for line in README.splitlines() if re.search(pattern[1], line)]
    assert found == FRESH[1:]


def test_constraints_pin_what_the_project_leaves_open() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    names = [re.split(r"[>=<\[]", requirement)[0] for requirement in wanted]
    assert set(names) <= set(pins)
    assert all("==" not in requirement for requirement in wanted)
    assert re.fullmatch(r"[\d.]+", pins["torch"])


def test_version_is_stated_once_and_for_all() -> None:
    assert PROJECT["version"] == esc_sr.__version__
    assert f"## {esc_sr.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_example_is_what_its_script_renders() -> None:
    rendered = runpy.run_path(str(ROOT / "scripts" / "render_example.py"))["render"]()
    stored = read_image(ROOT / "examples" / "harbour.png").pixels
    assert rendered.shape == stored.shape
    difference = np.abs(rendered.astype(int) - stored.astype(int))
    assert difference.max() <= 2  # rounding of sines may differ between machines


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a git checkout")
def test_no_machine_is_named() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        path = ROOT / name
        if (
            path.suffix in {".heic", ".jpg", ".png", ".safetensors", ".webp"}
            or name == "tests/contracts/test_project.py"
        ):
            continue
        found = re.search(r"/home/\w|/Users/\w|/root/|/mnt/", path.read_text())
        assert not found, f"{name}: {found[0] if found else ''}"
