"""The loop on a tiny network: it learns, resumes exactly, saves when stopped, and survives bad steps."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esc_sr.data.crops import Batch, Crops, batches
from esc_sr.data.pairs import Pair, cut_pair, make_pairs
from esc_sr.data.pictures import Decoded
from esc_sr.errors import EscError
from esc_sr.evaluate import Scores
from esc_sr.train import checkpoint
from esc_sr.train.loop import MAX_BAD_STEPS, train
from esc_sr.train.losses import Distance
from esc_sr.train.monitor import RunOptions
from esc_sr.train.recipes import Classic, Recipe
from esc_sr.train.schedule import Budget
from esc_sr.train.setup import Report
from esc_sr.train.step import step
from esc_sr.train.stop import stop_signals

RECIPE = replace(Classic(), batch=4, patch=8, lr=2e-3)
TWENTY = Budget(iterations=20)


def make_pairs_of_blobs() -> list[Pair]:
    y, x = np.mgrid[:40, :44]
    waves = [127.5 + 120 * np.sin(x / (3 + i)) * np.cos(y / (5 - i)) for i in range(3)]
    return list(make_pairs([Decoded("blobs", np.stack(waves, axis=-1).astype(np.uint8))], 2))


def make_batches(start: int = 0) -> Iterator[Batch]:
    pairs = [(Decoded(name, lr), Decoded(name, hr)) for name, lr, hr in make_pairs_of_blobs()]
    cut = partial(cut_pair, scale=2, patch=RECIPE.patch)
    return batches(Crops(pairs, cut, RECIPE.seed), RECIPE.batch, start)


def make_state() -> checkpoint.State:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 12, 3, padding=1), nn.PixelShuffle(2)
        )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=RECIPE.lr, betas=RECIPE.betas, weight_decay=0, fused=True
    )
    ema = deepcopy(model).requires_grad_(False)
    return checkpoint.State(model, ema, Distance(), optimizer)


def run(
    state: checkpoint.State,
    out: Path,
    budget: Budget = TWENTY,
    given: Iterator[Batch] | None = None,
    recipe: Recipe = RECIPE,
    **options: Any,
) -> bool:
    given = given or make_batches(state.iteration)
    with stop_signals() as stop:
        return train(state, given, checkpoint.Plan(recipe, budget, {}), out, stop=stop, **options)


def resume(out: Path) -> checkpoint.State:
    state = make_state()
    checkpoint.restore(state, checkpoint.load(out), checkpoint.Plan(RECIPE, TWENTY, {}))
    return state


def send_signal_at(iteration: int, number: int) -> Report:
    def report(record: Mapping[str, Any]) -> None:
        if record["event"] == "train" and record["iteration"] == iteration:
            os.kill(os.getpid(), number)

    return report


def assert_same(a: checkpoint.State, b: checkpoint.State) -> None:
    for name in ("model", "ema", "optimizer"):
        torch.testing.assert_close(
            getattr(a, name).state_dict(), getattr(b, name).state_dict(), rtol=0, atol=0
        )
    assert a.iteration == b.iteration


def read_log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_and_resume_take_the_same_steps_as_without_a_stop(tmp_path: Path, number: int) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    straight.mkdir()
    broken.mkdir()
    whole = make_state()
    assert run(whole, straight)

    before = signal.getsignal(number)
    first = make_state()
    assert not run(first, broken, options=RunOptions(log_every=10), report=send_signal_at(10, number))
    assert signal.getsignal(number) == before
    assert first.iteration == 10
    assert read_log(broken)[-1]["event"] == "stopped"
    second = resume(broken)
    assert_same(first, second)
    assert run(second, broken)
    assert_same(whole, second)
    assert read_log(broken)[-1]["event"] == "finished"


def test_a_second_signal_is_not_held_back(tmp_path: Path) -> None:
    def twice(record: Mapping[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(make_state(), tmp_path, options=RunOptions(log_every=1), report=twice)


def test_a_finished_run_goes_on_when_given_more(tmp_path: Path) -> None:
    run(make_state(), tmp_path)
    state = resume(tmp_path)
    assert run(state, tmp_path)
    assert state.iteration == 20
    assert run(state, tmp_path, Budget(iterations=30), options=RunOptions(log_every=1))
    assert state.iteration == 30
    records = [record for record in read_log(tmp_path) if record["event"] == "train"]
    assert [record["iteration"] for record in records] == list(range(21, 31))
    assert records[0]["lr"] == pytest.approx(RECIPE.lr / 2)
    assert records[-1]["lr"] == pytest.approx(RECIPE.lr / 2**4)


def test_a_run_in_minutes_ends_in_time_and_counts_training_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(start=100.0, step=1.5)  # read twice for a step and twice for what follows it: 3 s
    for module in ("loop", "monitor"):
        monkeypatch.setattr(f"esc_sr.train.{module}.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    state = make_state()
    assert run(state, tmp_path, Budget(minutes=0.5), options=RunOptions(log_every=1))
    assert (state.iteration, state.elapsed) == (10, 30)
    next(clock)  # between stop and resume
    state = resume(tmp_path)
    assert state.elapsed == 30
    assert run(state, tmp_path, Budget(minutes=1))
    assert (state.iteration, state.elapsed) == (20, 60)
    rates = [record["lr"] for record in read_log(tmp_path) if record["event"] == "train"]
    assert rates[-1] < RECIPE.lr / 2 < max(rates)


def test_the_loss_falls_and_the_average_follows(tmp_path: Path) -> None:
    records: list[Mapping[str, Any]] = []
    state = make_state()
    held_out = make_pairs_of_blobs()
    run(
        state,
        tmp_path,
        Budget(iterations=300),
        held_out=held_out,
        options=RunOptions(log_every=50),
        report=records.append,
    )
    losses = [record["loss"] for record in records if record["event"] == "train"]
    assert losses[-1] < losses[0] / 4
    assert [dict(record) for record in records] == read_log(tmp_path)
    (validation,) = (record for record in records if record["event"] == "validation")
    assert validation["psnr"] > 20
    assert 0 < validation["ssim"] <= 1
    assert (validation["iteration"], validation["pictures"]) == (300, 1)
    assert state.scores["psnr"] == validation["psnr"]


def test_average_is_the_recurrence_with_a_rising_decay(tmp_path: Path) -> None:
    state = make_state()
    expected = [parameter.detach().clone() for parameter in state.model.parameters()]
    for iteration in range(5):
        run(state, tmp_path, Budget(iterations=iteration + 1))
        decay = (1 + iteration) / (10 + iteration)
        expected = [
            decay * old + (1 - decay) * new.detach()
            for old, new in zip(expected, state.model.parameters(), strict=True)
        ]
    torch.testing.assert_close(list(state.ema.parameters()), [nn.Parameter(e, False) for e in expected])


def test_the_average_has_the_statistics_of_batches(tmp_path: Path) -> None:
    state = make_state()
    for network in (state.model, state.ema):
        assert isinstance(network, nn.Sequential)
        network[1] = nn.Sequential(nn.BatchNorm2d(16), nn.GELU())
    state.ema.requires_grad_(False)
    run(state, tmp_path, Budget(iterations=2))
    found = state.ema.get_buffer("1.0.running_mean")
    assert found.any() and torch.equal(found, state.model.get_buffer("1.0.running_mean"))


def test_accumulating_takes_the_same_step(tmp_path: Path) -> None:
    states = [make_state(), make_state()]
    for state, parts in zip(states, (1, 4), strict=True):
        recipe = replace(RECIPE, accumulate=parts, warmup=0)
        run(state, tmp_path, Budget(iterations=3), recipe=recipe, options=RunOptions(log_every=3))
    losses = [record["loss"] for record in read_log(tmp_path) if record["event"] == "train"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    torch.testing.assert_close(
        states[0].model.state_dict(), states[1].model.state_dict(), rtol=1e-4, atol=1e-6
    )


def test_a_long_gradient_is_shortened(tmp_path: Path) -> None:
    state = make_state()
    lengths: list[float] = []

    def measure(*arguments: object) -> None:
        gradients = [weight.grad for weight in state.model.parameters() if weight.grad is not None]
        lengths.append(float(nn.utils.get_total_norm(gradients)))

    state.optimizer.register_step_pre_hook(measure)
    batch = next(make_batches())
    for clip in (0.0, 1e6, 1e-3):
        step(state, state.model, batch, replace(RECIPE, clip=clip), 0.0, "fp32")
    assert lengths == [lengths[0], lengths[0], pytest.approx(1e-3, rel=1e-3)]
    assert lengths[0] > 1e-2


def test_a_compiled_network_trains_the_weights_that_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, compiled, calls = make_state(), make_state(), []
    run(plain, tmp_path, Budget(iterations=3))

    def compile_it(network: nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda x: calls.append(x) or network(x)  # type: ignore[func-returns-value]

    monkeypatch.setattr(torch, "compile", compile_it)
    run(compiled, tmp_path, Budget(iterations=3), options=RunOptions(compile=True))
    assert len(calls) == 3
    assert_same(plain, compiled)


def test_autocast_trains_in_bfloat16_and_keeps_float32_weights(tmp_path: Path) -> None:
    state, seen = make_state(), []
    first = next(state.model.children())
    first.register_forward_hook(lambda module, args, result: seen.append(result.dtype))
    run(state, tmp_path, Budget(iterations=2), options=RunOptions(precision="bf16"))
    assert set(seen) == {torch.bfloat16}
    assert {parameter.dtype for parameter in state.model.parameters()} == {torch.float32}


def test_checkpoints_and_validations_come_at_their_times(tmp_path: Path) -> None:
    state, exported = make_state(), []
    always = RunOptions(save_minutes=0, val_minutes=0, log_every=100)
    budget = Budget(iterations=3)
    run(
        state,
        tmp_path,
        budget,
        held_out=make_pairs_of_blobs(),
        options=always,
        export=lambda name: exported.append((name, state.iteration)),
    )
    assert [iteration for name, iteration in exported if name == "ema"] == [1, 2, 3, 3]
    assert [record["iteration"] for record in read_log(tmp_path)] == [1, 2, 3, 3]
    rarely = RunOptions(save_minutes=60, val_minutes=60, log_every=100)
    exported.clear()
    run(
        state,
        tmp_path,
        Budget(iterations=6),
        options=rarely,
        export=lambda name: exported.append((name, state.iteration)),
    )
    assert exported == [("ema", 6)]


class Judged(Classic):
    """Has some scores, one after the other."""

    found = iter([30.0, 31.0, 30.5, 31.5])

    def validate(self, network: nn.Module, pairs: Sequence[Pair], scale: int) -> Scores:
        return Scores(next(self.found), 0.9, len(pairs))


def test_only_a_better_validation_is_the_best(tmp_path: Path) -> None:
    state, exported = make_state(), []
    run(
        state,
        tmp_path,
        Budget(iterations=4),
        recipe=Judged(batch=4, patch=8),
        held_out=make_pairs_of_blobs(),
        options=RunOptions(val_every=1),
        export=lambda name: exported.append((name, state.iteration)),
    )
    assert [iteration for name, iteration in exported if name == "best"] == [1, 2, 4]
    assert state.best == 31.5


def poisoned(bad_steps: set[int], value: float) -> Iterator[Batch]:
    """Batches with pictures that are not finite at some steps, counted from 1."""
    for number, (lr, hr) in enumerate(make_batches(), start=1):
        yield lr, hr.fill_(value) if number in bad_steps else hr


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_steps_are_left_out_and_counted(tmp_path: Path, value: float) -> None:
    bad = {3, *range(5, 5 + MAX_BAD_STEPS)}
    state, weights = make_state(), []

    def watch(record: Mapping[str, Any]) -> None:
        if record["event"] == "train":
            weights.append(deepcopy(state.model.state_dict()))

    assert run(state, tmp_path, given=poisoned(bad, value), options=RunOptions(log_every=1), report=watch)
    records = [record for record in read_log(tmp_path) if record["event"] == "train"]
    assert [record["iteration"] for record in records if record["loss"] is None] == sorted(bad)
    assert records[-1]["skipped"] == state.skipped == len(bad)
    torch.testing.assert_close(weights[2], weights[1], rtol=0, atol=0)
    assert not torch.equal(weights[3]["0.weight"], weights[2]["0.weight"])
    assert all(parameter.isfinite().all() for parameter in state.ema.parameters())


def test_a_gradient_that_is_not_finite_is_a_bad_step_too(tmp_path: Path) -> None:
    state = make_state()
    weight = next(state.model.parameters())
    before = weight.detach().clone()
    weight.register_hook(lambda gradient: gradient * float("inf"))
    run(state, tmp_path, Budget(iterations=3))
    assert state.skipped == 3
    assert torch.equal(weight, before)


def test_too_many_bad_steps_in_a_row_end_the_run_with_the_weights_from_before(tmp_path: Path) -> None:
    good, saved = make_state(), []
    run(good, tmp_path, Budget(iterations=5))
    state = resume(tmp_path)
    with pytest.raises(EscError, match="step 16: 11 in a row.* go on with --resume in fp32") as caught:
        run(
            state,
            tmp_path,
            given=poisoned(set(range(1, 100)), float("nan")),
            options=RunOptions(save_minutes=60),
            export=lambda name: saved.append(state.iteration),
        )
    assert "\n" not in str(caught.value)
    assert saved == [16]
    after = resume(tmp_path)
    assert (after.iteration, after.skipped) == (16, 11)
    for name in ("model", "ema", "optimizer"):
        found, wanted = getattr(after, name).state_dict(), getattr(good, name).state_dict()
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert run(after, tmp_path)


@pytest.mark.parametrize(("loss", "power"), [("l1", 1), ("mse", 2)])
def test_the_objective_decides_what_is_made_small(loss: str, power: int) -> None:
    state = make_state()
    lr, hr = next(make_batches())
    with torch.no_grad():
        expected = (state.model(lr) - hr).abs().pow(power).mean()
    state.objective = Distance(loss)
    found = step(state, state.model, (lr, hr), RECIPE, 1e-4, "fp32")
    assert found is not None and list(found) == [loss]
    assert found[loss] == pytest.approx(float(expected), rel=1e-5)
