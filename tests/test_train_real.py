"""`esc-sr train real-mse` and `real-gan` on a tiny network, from pictures to weights, and exact resume."""

import os
import signal
from collections.abc import Mapping
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
from esc_sr.errors import DataError, UsageError, WeightsError
from esc_sr.families.esc.presets import PRESETS
from esc_sr.network.discriminator import UNetDiscriminator
from esc_sr.train.feed import Data
from esc_sr.train.monitor import RunOptions
from esc_sr.train.recipes import RealGAN
from esc_sr.train.run import Frozen, Model, Start, run
from esc_sr.train.schedule import Budget

SMALL = replace(RealGAN(), batch=2, accumulate=2, patch=8, context=10, pool=4)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = replace(PRESETS["esc-real"][4], dim=8, pdim=4, n_blocks=1, n_convattn=1, window=8, heads=1)
    monkeypatch.setitem(PRESETS, "esc-real", {4: tiny})
    monkeypatch.setattr("esc_sr.train.losses.UNetDiscriminator", lambda: UNetDiscriminator(4))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def vgg(tmp_path: Path) -> Path:
    path = tmp_path / "vgg.pth"
    generator = torch.Generator().manual_seed(0)
    state = {}
    for place, dim in ((0, 3), (2, 64)):
        state[f"features.{place}.weight"] = 0.1 * torch.randn(64, dim, 3, 3, generator=generator)
        state[f"features.{place}.bias"] = torch.zeros(64)
    torch.save(state, path)
    return path


@pytest.fixture
def stage1(pictures: Path, tmp_path: Path) -> Path:
    result = train("real-mse", "--data", pictures, "--out", tmp_path / "mse", "--set", "clean=0.5")
    assert result.exit_code == 0, result.exception
    return tmp_path / "mse" / "ema.safetensors"


def train(recipe: str, *arguments: object) -> Result:
    sizes = ("--batch", 2, "--patch", 8, "--set", "context=10", "--set", "pool=2", "--device", "cpu")
    often = ("--iterations", 2, "--log-every", 1)
    return CliRunner().invoke(app, [recipe, *map(str, (*sizes, *often, *arguments))])


def test_stage_2_goes_on_from_stage_1(pictures: Path, stage1: Path, vgg: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held-out"
    held_out.mkdir()
    (pictures / "b.png").rename(held_out / "b.png")
    out = tmp_path / "gan"
    result = train(
        "real-gan", "--data", pictures, "--val", held_out, "--from", stage1, "--vgg", vgg, "--out", out
    )
    assert result.exit_code == 0, result.exception
    assert "ends at conv1_2, so the perceptual loss does without conv2_2" in result.output
    assert "(l1 0." in result.output and "discriminator 1." in result.output
    assert "held out:" in result.output
    for path, recipe, loss_weights in ((stage1, "real-mse", None), (out, "real-gan", [1, 1, 0.1])):
        card = weights.card(path if path.is_file() else path / "ema.safetensors") or {}
        assert (card["recipe"], card["loss_weights"], card["scale"]) == (recipe, loss_weights, 4)
        assert card["clean"] == (0.5 if recipe == "real-mse" else 0)
    assert (card["perceptual_layers"], card["started_from"]) == (["conv1_2"], "ema.safetensors")
    before, after = (weights.load(path).state_dict() for path in (stage1, out / "ema.safetensors"))
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0 < moved < 0.001  # two steps of 1e-4


def test_a_stop_changes_nothing_in_any_part(pictures: Path, stage1: Path, vgg: Path, tmp_path: Path) -> None:
    def interrupt(record: Mapping[str, Any]) -> None:
        if record.get("iteration") == 2 and record["event"] == "train":
            os.kill(os.getpid(), signal.SIGINT)

    def go(out: str, report: Any = lambda record: None, **how: Any) -> bool:
        options = RunOptions(log_every=1)
        return run(
            SMALL, Model("esc-real", 4), Data([pictures]), tmp_path / out, options=options, report=report,
            **{"frozen": Frozen(vgg=vgg), **how},
        )  # fmt: skip

    begin = Start(weights=stage1)
    assert go("straight", start=begin, budget=Budget(4))
    assert not go("broken", interrupt, start=begin, budget=Budget(4))
    other = tmp_path / "other.pth"
    torch.save({name: 2 * value for name, value in torch.load(vgg).items()}, other)
    with pytest.raises(UsageError, match="resume with another --vgg"):
        go("broken", start=Start(resume=True), frozen=Frozen(vgg=other))
    assert go("broken", start=Start(resume=True))
    straight, broken = (torch.load(tmp_path / out / "last.pt") for out in ("straight", "broken"))
    assert straight["iteration"] == broken["iteration"] == 4
    for part in ("model", "ema", "objective", "optimizer", "pool"):
        torch.testing.assert_close(straight[part], broken[part], rtol=0, atol=0)
    assert len(straight["pool"]["hr"]) == 4
    assert any(name.startswith("discriminator.down") for name in straight["objective"])


def test_what_a_recipe_lacks_is_said_before_any_work(
    pictures: Path, stage1: Path, vgg: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    common = ("--data", pictures, "--out", out)
    cases: list[tuple[type[Exception], str, Result]] = [
        (UsageError, "give torchvision's file", train("real-gan", *common, "--from", stage1)),
        (UsageError, "give them with --from", train("real-gan", *common, "--vgg", vgg)),
        (UsageError, "has no perceptual loss", train("real-mse", *common, "--vgg", vgg)),
        (UsageError, "scale 2", train("real-mse", *common, "--scale", 2)),
        (UsageError, "three numbers", train("real-gan", *common, "--set", "weights=1,2")),
        (UsageError, "must be at least 4", train("real-gan", *common, "--patch", 3)),
        (UsageError, "at least the patch of 8", train("real-mse", *common, "--set", "context=7")),
        (UsageError, "clean=1.5: must be from 0 to 1", train("real-mse", *common, "--set", "clean=1.5")),
        (UsageError, "mild together", train("real-mse", *common, "--set", "mild=0.6", "--set", "native=0.5")),
        (
            UsageError,
            "which has no HR",
            train("real-mse", *common, "--set", "native=0.5", "--set", "teacher_share=0.5"),
        ),
        (
            UsageError,
            "only a teacher knows",
            train("real-mse", *common, "--set", "native=0.1", "--set", "mild=0.9"),
        ),
        (UsageError, "--data and --out", train("real-mse", "--data", pictures)),
        (
            WeightsError,
            "none.pth: cannot be read (No such file",
            train("real-gan", *common, "--from", stage1, "--vgg", "none.pth"),
        ),
    ]
    for kind, message, result in cases:
        assert isinstance(result.exception, kind), result.exception
        assert message in str(result.exception) and "\n" not in str(result.exception)
    assert not out.exists()
    result = train("real-mse", *common, "--set", "context=17")
    assert isinstance(result.exception, DataError) and "--set context=16" in str(result.exception)
