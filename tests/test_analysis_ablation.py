"""Table 3 on a budget: what is trained, what is taken as it is, and what stands beside the paper's."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from esc_sr.analysis import ablation
from esc_sr.cli.main import app
from esc_sr.families.esc.presets import PRESETS
from esc_sr.image import Picture, write_image
from test_network import VARIANTS

ONE = "analyze ablation --data hr --benchmark set --runs runs --iterations 2 --set batch=1 --set patch=8"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with pictures; two networks of Table 3 are tiny."""
    monkeypatch.chdir(tmp_path)
    for folder, name in (("hr", "a"), ("set/HR", "b")):
        Path(folder).mkdir(parents=True)
        pixels = np.random.default_rng(len(name)).integers(0, 256, (32, 40, 3), dtype=np.uint8)
        write_image(Picture(pixels), f"{folder}/{name}.png")
    for name, changes in (("esc-lk9", {"kernel": 9}), ("esc", {})):
        monkeypatch.setitem(PRESETS, name, {2: replace(VARIANTS["esc"], **changes)})  # type: ignore[arg-type]
    return tmp_path


def run(line: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, line.split())
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_variants_are_those_of_the_table() -> None:
    assert len(ablation.variants()) == 9
    assert ablation.variants()[0] == "esc-only-attn" and ablation.variants()[-1] == "esc"


def test_variants_are_trained_measured_and_taken_as_they_are(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = f"{ONE} --variant esc-lk9 --variant esc"
    code, out, err = run(f"{ONE} --variant esc-lk9")
    assert code == 0, err
    assert "esc-lk9: training\n" in out
    code, out, err = run(both)
    assert code == 0, err
    assert "esc-lk9: trained already" in out and "esc: training\n" in out
    assert "9×9 LK" in out and "38.33/0.9618" not in out  # the set is not one of the paper's
    rows = json.loads(Path("ablation.json").read_text())["rows"]
    assert [(row["variant"], row["iterations"]) for row in rows] == [("esc-lk9", 2), ("esc", 2)]
    assert rows[0]["paper"]["kparams"] == 924 and rows[0]["parameters"] < rows[1]["parameters"]
    assert all(5 < row["scores"]["set"]["psnr"] < 40 for row in rows)
    assert Path("ablation.png").stat().st_size > 5000
    with monkeypatch.context() as patch:
        patch.setattr(ablation, "measure", lambda *_, **__: pytest.fail("measured again"))
        assert run(both)[0] == 0
    assert json.loads(Path("ablation.json").read_text())["rows"] == rows
    code, out, _ = run(both.replace("iterations 2", "iterations 3"))  # a longer budget goes on
    assert code == 0 and "already" not in out
    assert {row["iterations"] for row in json.loads(Path("ablation.json").read_text())["rows"]} == {3}
    code, _, err = run(both.replace("patch=8", "patch=9"))
    assert code == 2 and "was trained with patch=8; keep that, or give another folder" in err


def test_scores_on_the_papers_sets_stand_beside_the_papers(here: Path) -> None:
    Path("set").rename("Set5")
    code, out, err = run(f"{ONE.replace('benchmark set', 'benchmark Set5')} --variant esc-lk9 --variant esc")
    assert code == 0, err
    assert "38.33/0.9618" in out and "38.35/0.9619" in out
    rows = json.loads(Path("ablation.json").read_text())["rows"]
    printed = [{**row, "scores": row["paper"]["scores"]} for row in rows]
    assert ablation.differences(printed, "Set5") == pytest.approx({"esc-lk9": -0.02, "esc": 0})
    here_found = ablation.differences(rows, "Set5")
    assert here_found["esc"] == 0 and here_found["esc-lk9"] != 0
    assert ablation.differences(rows[:1], "Set5") == {}


def test_a_run_that_is_stopped_is_saved_and_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(record: Any) -> None:
        if record["event"] == "train":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("esc_sr.cli.analyze.ablation.show", stop)
    long = f"{ONE.replace('iterations 2', 'iterations 60')} --variant esc-lk9"
    code, _, err = run(long)
    assert code == 130 and "the same command goes on" in err
    monkeypatch.undo()
    monkeypatch.chdir(here)
    monkeypatch.setitem(PRESETS, "esc-lk9", {2: replace(VARIANTS["esc"], kernel=9)})
    code, out, err = run(long)
    assert code == 0, err
    assert "esc-lk9: training\n" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--variant esc-light --iterations 1", "esc-light is no network of Table 3; there are esc-only-attn"),
        ("", "give the length of each run"),
        ("--iterations 1 --minutes 1", "not both"),
        ("--iterations 1 --set nonsense=1", "nonsense"),
        ("--iterations 1 -o none/a.png", "there is no folder none"),
    ],
)
def test_what_cannot_work_is_one_line(here: Path, arguments: str, message: str) -> None:
    code, out, err = run(f"analyze ablation --data hr --benchmark set --runs runs {arguments}")
    assert (code, out) == (2, "")
    assert message in err and len(err.splitlines()) == 1
    assert not Path("runs").exists()
