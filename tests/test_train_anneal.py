"""Runs of constant rate, and copies of them whose rate falls to 0."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from esc_sr import weights
from esc_sr.cli.train import app
from esc_sr.errors import EscError, UsageError
from esc_sr.train import checkpoint
from esc_sr.train.recipes import Classic, RealGAN, RealMSE
from esc_sr.train.schedule import Budget, learning_rate


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(folder / "0.png")
    return folder


def train(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["classic", *map(str, (*arguments, "--device", "cpu", "--log-every", 1))])


def refused(*arguments: object) -> str:
    result = train(*arguments)
    assert isinstance(result.exception, EscError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def rates(out: Path) -> list[tuple[int, Any]]:
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(record["iteration"], record["lr"]) for record in records if record["event"] == "train"]


def test_a_decay_falls_in_a_straight_line_to_nothing() -> None:
    recipe = replace(Classic(), warmup=0, milestones=(), decay=0.4, lr=1.0)
    budget = Budget(iterations=10)
    found = [learning_rate(recipe, budget, n / 10) for n in range(11)]
    assert found == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


def test_a_copy_falls_to_nothing_and_leaves_the_run_alone(pictures: Path, tmp_path: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    base = ("--data", pictures, "--batch", 1, "--patch", 8)
    steady = ("--set", "optimizer=muon", "--set", "milestones=()", "--set", "warmup=0", "--set", "lr=1e-3")
    assert train(*base, *steady, "--out", run, "--iterations", 3).exit_code == 0
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}

    annealing = ("--data", pictures, "--out", copy, "--anneal", run, "--iterations", 4)
    result = train(*annealing)
    assert result.exit_code == 0, result.exception
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert rates(run) == [(n, 1e-3) for n in (1, 2, 3)]
    falling = enumerate((1e-3, 75e-5, 5e-4, 25e-5), 4)
    assert rates(copy) == [(n, pytest.approx(rate)) for n, rate in falling]
    card = weights.card(copy / "ema.safetensors") or {}
    assert card["iterations"] == 7 and card["optimizer"] == "muon"

    saved, going_on = checkpoint.load(run), checkpoint.load(copy)
    recipe = checkpoint.recipe_of(going_on, Classic())
    assert (recipe.decay, recipe.optimizer, recipe.batch, recipe.patch) == (1.0, "muon", 1, 8)
    assert saved["recipe"]["decay"] == 0.0
    assert Budget(**going_on["budget"]).first_iteration == 3


def test_a_copy_has_a_best_of_its_own(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    base = ("--data", pictures, "--batch", 1, "--patch", 8, "--set", "milestones=()", "--set", "warmup=0")
    assert train(*base, "--out", run, "--iterations", 1).exit_code == 0
    content = checkpoint.load(run) | {"best": 99.0, "scores": {"psnr": 99.0}}
    torch.save(content, run / "last.pt")
    val = tmp_path / "val"
    val.mkdir()
    Image.new("RGB", (32, 32)).save(val / "a.png")
    copy = ("--data", pictures, "--out", tmp_path / "copy", "--anneal", run, "--iterations", 1, "--val", val)
    assert train(*copy).exit_code == 0
    card = weights.card(tmp_path / "copy" / "best.safetensors") or {}
    assert card["held_out"]["psnr"] < 99 and checkpoint.load(run)["best"] == 99


def test_a_broken_copy_goes_on(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    base = ("--data", pictures, "--batch", 1, "--patch", 8, "--set", "milestones=()", "--set", "warmup=0")
    assert train(*base, "--out", run, "--iterations", 2).exit_code == 0
    copies = [tmp_path / name for name in ("whole", "broken")]
    ends = []
    for copy in copies:
        annealing = ("--data", pictures, "--out", copy, "--anneal", run)
        assert train(*annealing, "--iterations", 4).exit_code == 0
        ends.append(checkpoint.load(copy)["ema"])
        assert "holds a run already" in refused(*annealing, "--iterations", 4)
        longer = train(*annealing, "--resume", "--iterations", 5)
        assert longer.exit_code == 0, longer.exception
        assert rates(copy)[-1] == (7, pytest.approx(5e-4 / 5))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_last_part_may_learn_otherwise(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    base = ("--data", pictures, "--batch", 1, "--patch", 8, "--set", "milestones=()")
    assert train(*base, "--out", run, "--iterations", 1).exit_code == 0
    changed = ("--anneal", run, "--iterations", 1, "--set", "loss=mse", "--batch", 2)
    assert train("--data", pictures, "--out", tmp_path / "copy", *changed).exit_code == 0
    recipe = checkpoint.recipe_of(checkpoint.load(tmp_path / "copy"), Classic())
    assert (recipe.loss, recipe.batch, recipe.patch) == ("mse", 2, 8)


def test_a_copy_steps_as_it_is_told(pictures: Path, tmp_path: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    base = ("--data", pictures, "--batch", 1, "--patch", 8, "--set", "milestones=()")
    muon = ("--set", "optimizer=muon", "--set", "lr=1e-3", "--set", "muon_lr=2e-3")
    assert train(*base, *muon, "--out", run, "--iterations", 1).exit_code == 0
    (group,) = (g for g in checkpoint.load(run)["optimizer"]["param_groups"] if g["muon"])
    assert group["share"] == pytest.approx(2)
    told = ("--set", "lr=1e-3", "--set", "muon_lr=5e-3", "--set", "betas=0.8,0.95")
    anneal = ("--data", pictures, "--anneal", run, "--iterations", 1, "--out", copy)
    assert train(*anneal, *told).exit_code == 0
    groups = checkpoint.load(copy)["optimizer"]["param_groups"]
    assert [g["betas"] for g in groups] == [(0.8, 0.95)] * 2
    assert [g["share"] for g in groups if g["muon"]] == pytest.approx([5])


def test_what_cannot_be_annealed_is_one_line(pictures: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "copy"
    base = ("--data", pictures, "--batch", 1, "--patch", 8)
    assert train(*base, "--out", run, "--iterations", 1, "--set", "decay=0.5").exit_code == 0
    anneal = ("--data", pictures, "--out", out, "--anneal")
    assert "is 0 already" in refused(*anneal, run, "--minutes", 1)
    assert "say how long" in refused(*anneal, run)
    assert "no last.pt" in refused(*anneal, tmp_path / "nothing", "--minutes", 1)
    assert "the recipe is that of the run" in refused(*anneal, run, "--minutes", 1, "--small")
    start = run / "ema.safetensors"
    assert "--anneal and --from" in refused(*anneal, run, "--minutes", 1, "--from", start)
    assert not out.exists()


def test_small_is_one_flag(tmp_path: Path) -> None:
    result = train("--small", "--print-config")
    assert result.exit_code == 0
    for line in ('optimizer = "muon"', "patch = 64", "decay = 0.4", "flat = 0.1", 'loss = "mse"'):
        assert line in result.output
    assert "decay = 0.0" in train("--small", "--set", "decay=0", "--print-config").output
    assert Classic().small(48).patch == 96
    assert RealMSE().small(64).context >= 128
    with pytest.raises(UsageError, match="real-gan"):
        RealGAN().small(32)


def test_crops_of_one_window_are_warned_of(pictures: Path, tmp_path: Path) -> None:
    run = ("--data", pictures, "--batch", 1, "--iterations", 1)
    result = train(*run, "--patch", 8, "--out", tmp_path / "a")
    assert "patch=8: in crops below two windows (64 px)" in result.output
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(pictures / "0.png")
    assert "two windows" not in train(*run, "--patch", 64, "--blocks", 1, "--out", tmp_path / "b").output


def test_a_pool_of_crops_of_another_size_begins_anew(pictures: Path, tmp_path: Path) -> None:
    base = ("--data", pictures, "--device", "cpu", "--model", "esc-light", "--blocks", 1, "--scale", 2)
    real = (
        *base,
        "--batch",
        2,
        "--patch",
        8,
        "--set",
        "context=10",
        "--set",
        "pool=2",
        "--set",
        "milestones=()",
    )
    copy = (*base, "--anneal", tmp_path / "run", "--patch", 10, "--batch", 4)
    for arguments in ((*real, "--out", tmp_path / "run"), (*copy, "--out", tmp_path / "copy")):
        result = CliRunner().invoke(app, ["real-mse", *map(str, arguments), "--iterations", "2"])
        assert result.exit_code == 0, result.exception
    assert checkpoint.load(tmp_path / "copy")["pool"]["lr"].shape == (4, 3, 10, 10)
