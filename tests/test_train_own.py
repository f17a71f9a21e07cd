"""A recipe in a user's own file: that of docs/recipes.md, from crops in other processes to weights."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from esc_sr import weights
from esc_sr.cli.train import app
from esc_sr.errors import UsageError
from esc_sr.train import checkpoint
from esc_sr.train.recipes import load_own

DOCUMENT = Path(__file__).parents[1] / "docs" / "recipes.md"
EXAMPLE = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[0]


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves no recipe's module behind."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("own_") or name == "edges":
            del sys.modules[name]


@pytest.fixture
def edges(tmp_path: Path) -> str:
    (tmp_path / "edges.py").write_text(EXAMPLE)
    return f"{tmp_path / 'edges.py'}:Edges"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "0.png")
    return folder


def train(*arguments: object) -> Result:
    small = ("--batch", 2, "--patch", 8, "--blocks", 1, "--device", "cpu", "--log-every", 1)
    return CliRunner().invoke(app, [*map(str, (*arguments, *small))])


def refused(*arguments: object) -> str:
    result = train(*arguments)
    assert isinstance(result.exception, UsageError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def losses(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [record["losses"] for record in records if record["event"] == "train"]


def test_it_trains_resumes_and_is_annealed(edges: str, pictures: Path, tmp_path: Path) -> None:
    straight, broken, copy = (tmp_path / name for name in ("straight", "broken", "copy"))
    base = ("--recipe", edges, "--data", pictures)
    run = (*base, "--set", "warmup=0", "--set", "milestones=()")
    assert train(*run, "--out", straight, "--iterations", 3).exit_code == 0
    result = train(*run, "--out", broken, "--iterations", 2)
    assert result.exit_code == 0, result.exception
    assert "edges 0." in result.output
    assert all(list(found) == ["l1", "edges"] and found["edges"] > 0 for found in losses(broken))
    resumed = train(*run, "--out", broken, "--iterations", 3, "--resume")
    assert resumed.exit_code == 0, resumed.exception
    assert losses(broken) == losses(straight)

    card = weights.card(broken / "ema.safetensors") or {}
    assert (card["recipe"], card["model"], card["scale"]) == ("edges.py:Edges", "esc-light", 2)
    saved = checkpoint.load(broken)["recipe"]
    assert (saved["name"], saved["edges"]) == ("edges.py:Edges", 0.5)
    result = train(*base, "--out", copy, "--anneal", straight, "--iterations", 1)
    assert result.exit_code == 0, result.exception
    assert len(losses(copy)) == 1


def test_a_run_keeps_its_recipe(edges: str, pictures: Path, tmp_path: Path) -> None:
    own, plain = tmp_path / "own", tmp_path / "plain"
    run = ("--data", pictures, "--iterations", 1)
    assert train("--recipe", edges, *run, "--out", own).exit_code == 0
    assert train("classic", *run, "--out", plain).exit_code == 0
    again = ("--recipe", edges, *run, "--resume", "--out")
    assert "edges was 0.5 and is now 0.25" in refused(*again, own, "--set", "edges=0.25")
    assert "of the recipe edges.py:Edges, not classic" in refused("classic", *run, "--resume", "--out", own)
    assert "of the recipe classic, not edges.py:Edges" in refused(*again, plain)
    assert "of the recipe classic, not edges" in refused(
        "--recipe", edges, *run, "--anneal", plain, "--out", own
    )
    (tmp_path / "edges.py").unlink()
    assert "there is no file" in refused(*again, own)


def test_its_settings_are_those_of_the_command_line(edges: str, tmp_path: Path) -> None:
    shown = train("--print-config", f"--recipe={edges}", "--set", "edges=0.25")
    assert shown.exit_code == 0, shown.exception
    assert 'name = "edges.py:Edges"\n' in shown.stdout and "edges = 0.25\n" in shown.stdout
    (tmp_path / "edges.toml").write_text(shown.stdout)
    read = train("--recipe", edges, "--config", tmp_path / "edges.toml", "--print-config")
    assert read.stdout == shown.stdout
    assert "patch = 8" in train("--recipe", edges, "--small", "--print-config").stdout
    assert "must be a number" in refused("--recipe", edges, "--set", "edges=sharp")
    assert "of another recipe than classic" in refused("classic", "--config", tmp_path / "edges.toml")


PARTS = """
from dataclasses import dataclass, replace
import torch
from esc_sr.data.pictures import Decoded
from esc_sr.evaluate import Scores
from esc_sr.train.recipes import Classic, Recipe

class Grey(Recipe):
    def pictures(self, setup):
        return [value / 4 for value in range(3)]

    def cut(self, picture, generator, scale):
        return torch.full((3, 8, 8), picture), torch.full((3, 8 * scale, 8 * scale), picture)

    def batches(self, crops, setup, pool, start):
        return ((lr, 1 - hr) for lr, hr in crops)

    def held_out(self, pictures, scale):
        return super().held_out([Decoded("cut", picture.pixels[:16, :16]) for picture in pictures], scale)

    def validate(self, network, pairs, scale):
        return Scores(float(pairs[0].hr.shape[0]), 0.5, len(pairs))

    def card(self):
        return {"colours": 3}

made = replace(Classic(), batch=4)

def make():
    return made
"""


def test_every_part_may_be_its_own_also_in_other_processes(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "own_parts.py").write_text(PARTS)
    held_out, out = tmp_path / "held-out", tmp_path / "out"
    held_out.mkdir()
    Image.new("RGB", (40, 40)).save(held_out / "0.png")
    run = (
        "--recipe",
        f"{tmp_path / 'own_parts.py'}:Grey",
        "--data",
        pictures,
        "--val",
        held_out,
        "--out",
        out,
    )
    result = train(*run, "--iterations", 1, "--workers", 1)
    assert result.exit_code == 0, result.exception
    card = weights.card(out / "ema.safetensors") or {}
    assert card["colours"] == 3
    assert card["held_out"]["psnr"] == 16 and card["held_out"]["pictures"] == 1


def test_a_recipe_may_be_made_and_returned(tmp_path: Path) -> None:
    (tmp_path / "own_made.py").write_text(PARTS)
    for name in ("made", "make"):
        recipe = load_own(f"{tmp_path / 'own_made.py'}:{name}")
        assert (recipe.name, recipe.batch) == (f"own_made.py:{name}", 4)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("own_bad.py", "write FILE.py:NAME"),
        ("own_bad.py:", "write FILE.py:NAME"),
        ("own_bad.txt:Edges", "write FILE.py:NAME"),
        ("nothing.py:Edges", "there is no file"),
        ("own_bad.py:Edges", "raises ZeroDivisionError: division by zero"),
        ("own_typo.py:Edges", "raises SyntaxError"),
        ("own_good.py:Other", "Other is not in it"),
        ("own_good.py:number", "number is no recipe, but of type int"),
        ("own_good.py:Abstract", "raises TypeError: Can't instantiate abstract class"),
        ("own_good.py:Wrong", "batch=0: must be at least 1"),
        ("json.py:Edges", "there is a module json already"),
    ],
)
def test_what_is_no_recipe_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    good = """
from esc_sr.train.recipes import Classic, Recipe
number = 3
class Abstract(Recipe): ...
Wrong = lambda: Classic(batch=0)
"""
    files = {
        "own_bad.py": "1 / 0",
        "own_typo.py": "def",
        "own_good.py": good,
        "json.py": "",
        "own_bad.txt": "",
    }
    for name, text in files.items():
        Path(name).write_text(text)
    assert message in refused("--recipe", place, "--data", tmp_path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_options_may_stand_before_it() -> None:
    assert "--recipe --batch: write FILE.py:NAME" in refused("--recipe")
    for arguments in (("classic", "--recipe", "a.py:B"), ("a.py:B",)):
        assert train(*arguments).exit_code == 2
