"""What a run finds of the machine before its first step, parts of a batch and time, and what it says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from esc_sr.cli.train import app
from esc_sr.data.pictures import find_pictures
from esc_sr.errors import UsageError
from esc_sr.machine.device import pick_device
from esc_sr.train import checkpoint, trial
from esc_sr.train.feed import first_batch
from esc_sr.train.losses import Distance
from esc_sr.train.recipes import Classic, RealGAN
from esc_sr.train.schedule import Budget
from esc_sr.train.setup import Setup
from esc_sr.train.team import Team

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "in" / "0.png")
    return tmp_path / "in"


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has room for two crops of 8 px."""
    monkeypatch.setattr("esc_sr.train.trial.parts_for", lambda crops, *machine: crops // 2)


def classic(pictures: Path, out: str, *more: object) -> str:
    options = ("--data", pictures, "--out", pictures.parent / out, "--patch", 8, "--blocks", 1)
    arguments = map(str, (*options, "--device", "cpu", "--iterations", 2, *more))
    result = CliRunner().invoke(app, ["classic", *arguments])
    if result.exception:
        raise result.exception
    return result.output


def recipe_in(pictures: Path, out: str) -> dict[str, Any]:
    recipe: dict[str, Any] = checkpoint.load(pictures.parent / out)["recipe"]
    return recipe


def test_a_batch_is_cut_up_as_the_machine_takes_it(pictures: Path, little: None) -> None:
    said = classic(pictures, "a", "--batch", 8)
    assert "batch=8 is worked through in 4 parts" in said and "--set accumulate=N" in said
    assert "a step takes about" in said and "the 2 steps of the run about" in said
    assert (recipe_in(pictures, "a")["batch"], recipe_in(pictures, "a")["accumulate"]) == (8, 4)


def test_a_run_that_goes_on_keeps_its_parts_unless_told_otherwise(
    pictures: Path, little: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ("--batch", 8, "--resume", "--iterations")
    classic(pictures, "a", "--batch", 8)
    monkeypatch.setattr("esc_sr.train.trial.parts_for", lambda crops, *machine: crops)
    assert "worked through" not in classic(pictures, "a", *run, 3)
    assert recipe_in(pictures, "a")["accumulate"] == 4
    classic(pictures, "a", *run, 4, "--set", "accumulate=2")
    assert recipe_in(pictures, "a")["accumulate"] == 2


def test_where_nothing_can_be_tried_a_batch_is_one_part(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise UsageError("not a first picture alone")

    monkeypatch.setattr("esc_sr.train.feed.first_batch", refuse)
    classic(pictures, "a", "--batch", 4)
    assert recipe_in(pictures, "a")["accumulate"] == 1
    classic(pictures, "a", "--batch", 4, "--resume", "--iterations", 3)


def test_a_teacher_on_a_cluster_is_not_asked_for_the_trial(pictures: Path, tmp_path: Path) -> None:
    cache = 2**20
    setup = Setup(scale=2, roots=[find_pictures(pictures)], cache=cache, teacher_cluster="auto")
    lr, hr = first_batch(replace(Classic(), batch=2, patch=8), setup)
    assert (lr.shape, hr.shape) == ((2, 3, 8, 8), (2, 3, 16, 16))


def test_what_was_said_is_kept_to(pictures: Path, little: None) -> None:
    assert "worked through" not in classic(pictures, "a", "--batch", 8, "--set", "accumulate=1")
    assert recipe_in(pictures, "a")["accumulate"] == 1
    assert "accumulate = 0" in classic(pictures, "b", "--print-config")
    with pytest.raises(UsageError, match="accumulate=3: must be a divisor of the batch of 8"):
        classic(pictures, "b", "--batch", 8, "--set", "accumulate=3")


def test_the_time_of_a_step_is_told_before_the_pictures_are_read(pictures: Path) -> None:
    said = classic(pictures, "a", "--batch", 4)
    lines = (
        "a step takes about",
        "reading the sizes of training pictures: 1/1",
        "reading training pictures: 1/1",
    )
    assert said.index(lines[0]) < said.index(lines[1]) < said.index(lines[2])


def test_cut_up_or_not_the_run_is_the_same(pictures: Path, little: None) -> None:
    classic(pictures, "parts", "--batch", 8)
    classic(pictures, "whole", "--batch", 8, "--set", "accumulate=1")
    parts, whole = (checkpoint.load(pictures.parent / out) for out in ("parts", "whole"))
    torch.testing.assert_close(parts["model"], whole["model"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("crops", "crop", "free", "device", "parts"),
    [
        (64, 2**20, 2**30, CPU, 1),
        (64, 2**26, 2**40, CPU, 8),  # 512 MiB for the one thread
        (64, 2**26, 2**40, GPU, 1),
        (64, 2**26, 2**31, GPU, 2),
        (64, 2**26, 2**27, CPU, 32),
        (48, 2**26, 20 * 2**26, GPU, 3),
        (7, 2**26, 2**28, GPU, 7),
        (64, 2**34, 2**30, CPU, 64),
    ],
)
def test_the_fewest_parts_that_have_room(
    crops: int, crop: int, free: int, device: torch.device, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert trial.parts_for(crops, crop, free, device) == parts


def test_processes_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esc_sr.train.trial.free_memory", lambda device: 1000)
    assert trial.free_for_a_part(CPU, Team(0, 8, 4)) == 175
    assert trial.free_for_a_part(GPU, Team(0, 8, 4)) == 700


class Counting(Distance):
    """A distance that remembers how often it was asked."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, found: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        return super().forward(found, wanted)


def test_a_trial_counts_one_crop_and_changes_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid())
    optimizer = torch.optim.AdamW(model.parameters())
    counting = Counting()
    state = checkpoint.State(model, model, counting, optimizer)
    batch = torch.rand(4, 3, 16, 16), torch.rand(4, 3, 32, 32)
    drawn = torch.get_rng_state()
    found = trial.try_out(state, batch, "fp32")
    lr, sr = 4 * 3 * 16 * 16, 4 * 3 * 32 * 32
    assert lr + sr <= found.memory / 1.6 <= lr + 4 * sr
    assert found.seconds > 0
    assert torch.equal(torch.get_rng_state(), drawn)
    assert int(counting.calls) == 0
    assert all(weight.grad is None for weight in model.parameters())


def state_at(iteration: int, elapsed: float) -> checkpoint.State:
    model = nn.Conv2d(1, 1, 1)
    state = checkpoint.State(model, model, Distance(), torch.optim.SGD(model.parameters()))
    state.iteration, state.elapsed = iteration, elapsed
    return state


@pytest.mark.parametrize(
    ("budget", "seconds", "said"),
    [
        (Budget(iterations=500_000), 60.0, "about 60 s, the 499900 steps of the run about 347 days"),
        (Budget(iterations=200), 0.25, "about 0.25 s, the 100 steps of the run about 25 s"),
        (Budget(iterations=1100), 9.0, "about 9 s, the 1000 steps of the run about 2 hours"),
        (Budget(minutes=60), 30.0, "about 30 s, so there are about 60 in the time of the run"),
    ],
)
def test_the_time_that_is_left_is_told(budget: Budget, seconds: float, said: str) -> None:
    plan = checkpoint.Plan(Classic(), budget, {})
    assert trial.expected_time(plan, state_at(100, 1800), seconds) == f"a step takes {said}"


def test_small_values_are_named_where_they_fit() -> None:
    slow = trial.advice(replace(Classic(), accumulate=16), 32, 60.0)
    assert slow == "the 500000 steps of classic are for GPUs; --small has values for CPU cores"
    assert trial.advice(Classic(), 32, 0.1) is None
    assert trial.advice(Classic().small(32), 32, 60.0) is None
    assert trial.advice(RealGAN(), 32, 60.0) is None


def test_a_crop_that_has_no_room_is_named() -> None:
    recipe = replace(Classic(), accumulate=64, patch=512)
    said = trial.chosen_parts(recipe, 64, 2**33, 2**32)
    assert said == (
        "patch=512: even a single crop needs 8.0 GiB of the 4.0 GiB that it may take; "
        "a smaller --patch takes less"
    )


def test_training_is_where_all_else_is(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def pick(name: str) -> torch.device:
        asked.append(name)
        return pick_device("cpu")

    monkeypatch.setattr("esc_sr.train.team.pick_device", pick)
    arguments = ["--data", pictures, "--out", pictures.parent / "a", "--patch", 8, "--batch", 1]
    CliRunner().invoke(app, ["classic", *map(str, arguments), "--iterations", "1"])
    assert asked[0] == "auto"
