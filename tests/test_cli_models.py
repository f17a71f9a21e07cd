"""`esc-sr models` and `esc-sr info`: what is bundled, what for, and what a file is that is no checkpoint."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from esc_sr import weights
from esc_sr.benchmark.networks import published
from esc_sr.cli.main import app

NAMES = [name for name, _, _ in weights.bundled()]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


def esc_sr(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_the_list_is_a_screen_with_a_line_of_advice_each() -> None:
    lines = esc_sr("models").stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert [row[0] for row in rows] == NAMES
    assert all(len(advice) > 20 for _, _, advice in rows)
    assert "esc-sr models NAME" in lines[-1]


def test_cards_are_behind_a_name() -> None:
    one = esc_sr("models", "esc-light-x3").stdout
    assert "iterations" in one and "sha256" in one and "…" not in one
    assert one.count("recipe") == 1
    family = json.loads(esc_sr("models", "esc-light", "--json").stdout)
    assert [model["name"] for model in family] == ["esc-light-x2", "esc-light-x3", "esc-light-x4"]
    assert [model["name"] for model in json.loads(esc_sr("models", "--json").stdout)] == NAMES


def test_all_networks_with_their_sizes_and_where_weights_are(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {row["name"]: row for row in json.loads(esc_sr("models", "--all", "--json").stdout)}
    monkeypatch.setattr("esc_sr.benchmark.networks.systems", lambda: iter(found.values()))  # built once
    assert list(found) == published()
    assert found["swinir-light"]["parameters"] == {"2": 910152, "3": 918267, "4": 929628}
    assert found["rcan"]["paper"] == "RCAN" and found["dasr"]["paper"] is None
    for name, row in found.items():
        assert re.match(r"github\.com/[\w-]+/[\w-]+", row["weights"]), name
    lines = esc_sr("models", "--all").stdout.splitlines()
    place = lines.index("HiT-SRF: github.com/XiangZ-0/HiT-SR (Apache-2.0)")
    assert lines[place + 1].split(maxsplit=1) == ["hit-srf", "x2 847 K, x3 855 K, x4 866 K"]
    assert "pass either NAME or --all" in esc_sr("models", "esc", "--all").stderr


def test_another_name_is_one_line(tmp_path: Path) -> None:
    unknown = esc_sr("models", "no-such")
    assert unknown.exit_code == 2 and "bundled are esc-fp-x2" in unknown.stderr
    (tmp_path / "a.pth").write_bytes(b"")
    file = esc_sr("models", str(tmp_path / "a.pth"))
    assert file.exit_code == 2 and "`esc-sr info" in file.stderr and file.stderr.count("\n") == 1


def test_info_says_what_a_text_file_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello, these are notes\n")
    result = esc_sr("info", str(tmp_path / "notes.txt"))
    assert result.exit_code == 2
    assert result.stderr.endswith("notes.txt: a text file, and no checkpoint (.safetensors, .pth or .pt)\n")
