"""The documentation builds, and the commands of its tour make what it shows."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from esc_sr.image import read_image

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs"
COMMANDS = re.findall(r"^esc-sr .*$", (PAGES / "tour.md").read_text(), re.MULTILINE)
SHOWN = re.findall(r"!\[[^]]*\]\((tour/\w+_4x\.webp)\)", (PAGES / "tour.md").read_text())


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Where the commands were run, and what each printed."""
    here = tmp_path_factory.mktemp("tour")
    shutil.copytree(PAGES / "tour", here / "docs" / "tour")
    printed = []
    for line in COMMANDS:
        command = [sys.executable, "-m", "esc_sr", *shlex.split(line)[1:]]
        ran = subprocess.run(command, cwd=here, capture_output=True, text=True)
        assert ran.returncode == 0, line + ran.stderr
        printed.append(ran.stdout)
    return here, printed


def test_the_tour_makes_the_pictures_that_it_shows(toured: tuple[Path, list[str]]) -> None:
    here, _ = toured
    assert len(SHOWN) == 3
    for name in SHOWN:
        shown, made = (read_image(path).pixels.astype(int) for path in (PAGES / name, here / Path(name).name))
        assert np.abs(shown - made).mean() < 1, f"{name}: not made by these weights; run the tour again"
    for name in ("cat_2.5x.png", "cat_400px.webp"):
        assert read_image(here / "docs" / "tour" / name).pixels.shape == (300, 400, 3)


def test_the_tour_measures_more_than_it_says_of_bicubic(toured: tuple[Path, list[str]]) -> None:
    said = re.search(r"bicubic has\s+(\d+\.\d) dB", (PAGES / "tour.md").read_text())
    found = re.search(r"PSNR on Y, dB +(\d+\.\d+)", toured[1][-1])
    assert said and found and float(found[1]) > float(said[1]) + 1


def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs mkdocs, of the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    page = (tmp_path / "api.html").read_text()
    assert "max_memory" in page and "https://fonts" not in page
