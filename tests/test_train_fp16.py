"""Training in fp16: gradients are scaled, and the search for the scale is no bad step."""

from pathlib import Path

import pytest
import torch
from torch.amp import GradScaler

from esc_sr.errors import DataError, EscError
from esc_sr.train import checkpoint
from esc_sr.train.loop import MAX_BAD_STEPS
from esc_sr.train.monitor import RunOptions
from esc_sr.train.schedule import Budget
from test_train_loop import RECIPE, make_state, read_log, run

FP16 = RunOptions(precision="fp16", log_every=1)
FOUR = Budget(iterations=4)
PLAN = checkpoint.Plan(RECIPE, FOUR, {})


def make_fp16_state(scale: float = 2.0**16) -> checkpoint.State:
    state = make_state()
    state.scaler = GradScaler("cpu", init_scale=scale)
    return state


def losses(out: Path) -> list[float | None]:
    return [record["loss"] for record in read_log(out) if record["event"] == "train"]


def test_it_learns_what_float32_learns(tmp_path: Path) -> None:
    half, single, seen = make_fp16_state(), make_state(), []
    next(half.model.children()).register_forward_hook(lambda module, args, result: seen.append(result.dtype))
    run(half, tmp_path, FOUR, options=FP16)
    run(single, tmp_path, FOUR, options=RunOptions(log_every=1))
    assert set(seen) == {torch.float16}
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    found = losses(tmp_path)
    assert found[:4] == pytest.approx(found[4:], rel=1e-2)
    assert half.skipped == 0


def test_a_scale_that_is_far_too_large_is_found_out_and_no_bad_step(tmp_path: Path) -> None:
    state = make_fp16_state(2.0**40)
    run(state, tmp_path, Budget(iterations=40), options=FP16)
    found = losses(tmp_path)
    assert MAX_BAD_STEPS < state.skipped < 40
    assert found[: state.skipped] == [None] * state.skipped and None not in found[state.skipped :]
    assert state.scaler.get_scale() == 2.0 ** (40 - state.skipped)


def test_gradients_that_no_scale_makes_finite_are_bad_steps(tmp_path: Path) -> None:
    state = make_fp16_state(4.0)
    next(state.model.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(EscError, match="step 13: 11 in a row"):
        run(state, tmp_path, options=FP16)


def test_losses_that_are_not_finite_leave_the_scale_alone(tmp_path: Path) -> None:
    state = make_fp16_state()
    with torch.no_grad():
        next(state.model.parameters())[0] = float("nan")
    with pytest.raises(DataError, match="no longer finite after step 11; nothing is saved so far"):
        run(state, tmp_path, options=FP16)
    assert state.scaler.get_scale() == 2.0**16


def test_the_scale_is_part_of_the_checkpoint(tmp_path: Path) -> None:
    state = make_fp16_state(2.0**40)
    run(state, tmp_path, FOUR, options=FP16)
    content = checkpoint.load(tmp_path)
    other, single = make_fp16_state(), make_state()
    for resumed in (other, single):
        checkpoint.restore(resumed, content, PLAN)
    assert other.scaler.state_dict() == state.scaler.state_dict()
    assert other.scaler.get_scale() == 2.0**36
    run(single, tmp_path, FOUR)
    checkpoint.restore(other, checkpoint.load(tmp_path), PLAN)
    assert other.scaler.get_scale() == 2.0**36
