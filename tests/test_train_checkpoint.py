"""Checkpoints are written whole or not at all, and only fitting ones are taken up."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from esc_sr.errors import DataError, UsageError, WeightsError
from esc_sr.train import checkpoint
from esc_sr.train.losses import Distance
from esc_sr.train.recipes import Classic, RealMSE
from esc_sr.train.schedule import Budget

CONFIG = {"scale": 2, "dim": 4}
BUDGET = Budget(minutes=1.5)
PLAN = checkpoint.Plan(Classic(), BUDGET, CONFIG)


def make_state(iteration: int = 0) -> checkpoint.State:
    model, ema = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return checkpoint.State(model, ema, Distance(), optimizer, iteration=iteration)


def write(state: checkpoint.State, out: Path) -> None:
    checkpoint.save(state, PLAN, out)


def test_round_trip_keeps_everything(tmp_path: Path) -> None:
    state = make_state(7)
    state.elapsed, state.skipped, state.hardware = 12.5, 3, ["a machine"]
    state.scores, state.started_from = {"psnr": 30.5}, "x2.safetensors"
    state.model(torch.ones(1, 1, 3, 3)).sum().backward()
    state.optimizer.step()
    write(state, tmp_path)

    other = make_state()
    content = checkpoint.load(tmp_path)
    checkpoint.restore(other, content, PLAN)
    assert Budget(**content["budget"]) == BUDGET
    for name in ("iteration", "elapsed", "skipped", "hardware", "scores", "started_from"):
        assert getattr(other, name) == getattr(state, name)
    for a, b in ((other.model, state.model), (other.ema, state.ema)):
        torch.testing.assert_close(a.state_dict(), b.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(other.optimizer.state_dict(), state.optimizer.state_dict(), rtol=0, atol=0)


def test_the_file_before_is_kept(tmp_path: Path) -> None:
    for iteration in (1, 2, 3):
        write(make_state(iteration), tmp_path)
    assert checkpoint.load(tmp_path)["iteration"] == 3
    (tmp_path / "last.pt").unlink()
    assert checkpoint.load(tmp_path)["iteration"] == 2


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("write failed")]
)
def test_a_failed_write_leaves_the_files_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for iteration in (1, 2):
        write(make_state(iteration), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fill_disk(content: Any, file: Any) -> None:
        file.write(b"half a checkpoint")
        raise error

    monkeypatch.setattr(torch, "save", fill_disk)
    with pytest.raises(
        DataError, match=r"last\.pt: cannot be written \(.*; the checkpoint before it is intact"
    ):
        write(make_state(3), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nothing_to_resume_from_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no last\.pt"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text" * 99]
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    write(make_state(), tmp_path)
    path = tmp_path / "last.pt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        WeightsError,
        match=r"last\.pt is damaged \(.*\) and previous.pt is missing; start another run --from its ema",
    ) as caught:
        checkpoint.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_foreign_file_is_named(tmp_path: Path) -> None:
    torch.save({"params": {}}, tmp_path / "last.pt")
    with pytest.raises(WeightsError, match="no checkpoint of a training run"):
        checkpoint.load(tmp_path)
    torch.save([1, 2], tmp_path / "last.pt")
    with pytest.raises(WeightsError, match="no checkpoint of a training run"):
        checkpoint.load(tmp_path)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"model": Path("anything")}, tmp_path / "last.pt")
    with pytest.raises(WeightsError, match="last.pt is damaged"):
        checkpoint.load(tmp_path)


def test_another_network_or_recipe_is_refused_before_anything_changes(tmp_path: Path) -> None:
    write(make_state(5), tmp_path)
    content, state = checkpoint.load(tmp_path), make_state()
    with pytest.raises(UsageError, match="another network: scale was 2 and is now 3; keep it"):
        checkpoint.restore(state, content, replace(PLAN, config={**CONFIG, "scale": 3}))
    other = replace(Classic(), batch=8, lr=1e-4)
    with pytest.raises(UsageError, match="another recipe: batch was 64 and is now 8, lr was 0.0005"):
        checkpoint.restore(state, content, replace(PLAN, recipe=other))
    with pytest.raises(UsageError, match="is of the recipe classic, not real-mse"):
        checkpoint.restore(state, content, replace(PLAN, recipe=RealMSE()))
    assert state.iteration == 0


def test_a_checkpoint_from_before_a_part_was_added_goes_on(tmp_path: Path) -> None:
    write(make_state(5), tmp_path)
    content = torch.load(tmp_path / "last.pt")
    for added in (content, content["recipe"]):
        for name in ("objective", "pool", "scaler", "vgg", "clip", "weights"):
            added.pop(name, None)
    content["generator"] = torch.zeros(8)  # what a checkpoint has no more
    content["recipe"] |= {"scales": (), "queries": 0, "context": 0}  # and what was a setting of all recipes
    torch.save(content, tmp_path / "last.pt")
    state = make_state()
    checkpoint.restore(state, checkpoint.load(tmp_path), PLAN)
    assert state.iteration == 5
    clipped = replace(PLAN, recipe=replace(Classic(), clip=1.0))
    with pytest.raises(UsageError, match=r"clip was 0\.0 and is now 1\.0"):
        checkpoint.restore(state, checkpoint.load(tmp_path), clipped)
