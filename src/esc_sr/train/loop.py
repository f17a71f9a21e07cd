"""The training loop: one for all recipes, straight from the first step to the last."""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from esc_sr.data.pairs import Pair
from esc_sr.errors import EscError
from esc_sr.evaluate import Protocol, evaluate
from esc_sr.network import ESCLTE
from esc_sr.train import checkpoint
from esc_sr.train.recipes import Recipe
from esc_sr.train.schedule import Budget, ema_decay, learning_rate

Forward = Callable[..., Tensor]
Report = Callable[[Mapping[str, Any]], None]


MAX_BAD_STEPS = 10
"""So many steps in a row may have a loss or gradient that is not finite; one more ends the run."""


@dataclass(frozen=True)
class Habits:
    """How a run goes about it; only the first three change the weights it arrives at, by rounding.

    Attributes:
        precision: fp32, or bf16 for autocast of the network to bfloat16.
        tf32: whether CUDA may round factors of float32 products to 10 bits.
        compile: whether the network is compiled, which takes minutes and pays in long runs.
        save_minutes: time between two checkpoints.
        val_minutes: time between two validations.
        log_every: steps per log line.
    """

    precision: str = "fp32"
    tf32: bool = True
    compile: bool = False
    save_minutes: float = 3.0
    val_minutes: float = 15.0
    log_every: int = 50


@dataclass
class _Meter:
    """Losses of the steps taken and seconds since the last log line, and the steps left out in a row."""

    losses: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    bad: int = 0

    def add(self, losses: dict[str, float] | None, seconds: float) -> None:
        """Count a step; None is one left out."""
        self.steps += 1
        self.seconds += seconds
        if losses:
            self.losses.append(losses)
        self.bad = 0 if losses else self.bad + 1

    def means(self) -> dict[str, float]:
        """Mean of each loss over the steps taken; empty if there is none."""
        names = self.losses[0] if self.losses else ()
        return {name: sum(losses[name] for losses in self.losses) / len(self.losses) for name in names}


def train(
    state: checkpoint.State,
    batches: Iterator[tuple[Tensor, ...]],
    recipe: Recipe,
    budget: Budget,
    out: Path,
    *,
    config: Mapping[str, Any],
    held_out: Sequence[Pair] = (),
    scale: int = 2,
    habits: Habits = Habits(),
    export: Callable[[], None] = lambda: None,
    report: Report = lambda record: None,
) -> bool:
    """Train `state.model` from where the state is to the end of the budget, (Supp. 6.1).

    Every record goes to `report` and, as one JSON line, to `out/log.jsonl`. The state is saved to `last.pt`
    now and then and at the end. Ctrl-C and SIGTERM end the run after the step at hand and save it; a second
    one ends it at once.

    Args:
        state: network, averaged weights, objective, optimizer and counters; changed in place.
        batches: what the network is given and, last, what it should give, each (B, ...); from the step of the
            state on.
        recipe: what to do in a step.
        budget: when to end; the schedule is fitted to it.
        out: an existing folder.
        config: sizes of the network, for the checkpoint.
        held_out: pairs to validate the averaged weights on.
        scale: of these pairs.
        habits: what the run does beside training.
        export: called after every save and after the last validation, to write the averaged weights.
        report: called with each log record.

    Returns:
        True if the run reached its end, False if it was stopped.

    Raises:
        EscError: more than `MAX_BAD_STEPS` steps in a row were not finite; nothing is saved then.
        DataError: the folder cannot be written.
    """
    state.model.train()
    forward = _prepare(state.model, habits)
    meter = _Meter()
    saved = validated = state.elapsed

    def log(**record: Any) -> None:
        with open(out / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        report(record)

    def save() -> None:
        checkpoint.save(state, recipe, budget, config, out)
        export()

    def validate() -> None:
        scores = evaluate(state.ema, held_out, scale, Protocol.of(state.ema))
        state.scores = {"iteration": state.iteration, **scores._asdict()}
        log(event="validation", elapsed=round(state.elapsed, 1), **state.scores)

    with _stop_signals() as stop:
        while not stop.is_set() and budget.progress(state.iteration, state.elapsed) < 1:
            started = time.perf_counter()
            lr = learning_rate(recipe, budget, budget.progress(state.iteration, state.elapsed))
            batch = next(batches)
            losses = step(state, forward, batch, recipe, lr, habits.precision)
            seconds = time.perf_counter() - started
            meter.add(losses, seconds)
            state.iteration += 1
            state.elapsed += seconds
            state.skipped += losses is None
            if meter.bad > MAX_BAD_STEPS:
                raise EscError(
                    f"step {state.iteration}: {meter.bad} in a row without a finite loss and gradient; "
                    f"nothing new is saved in {out}, start anew with a lower learning rate or in fp32"
                )
            if state.iteration % habits.log_every == 0:
                log(event="train", **_progress(state, budget, lr, meter))
                meter = _Meter(bad=meter.bad)
            started = time.perf_counter()
            if state.elapsed - saved >= 60 * habits.save_minutes:
                save()
                saved = state.elapsed
            if held_out and state.elapsed - validated >= 60 * habits.val_minutes:
                validate()
                validated = state.elapsed
            state.elapsed += time.perf_counter() - started

        save()
        finished = not stop.is_set()
        if held_out and finished:
            validate()
            export()
        event = "finished" if finished else "stopped"
        log(event=event, iteration=state.iteration, elapsed=round(state.elapsed, 1))
    return finished


def _prepare(model: nn.Module, habits: Habits) -> Forward:
    """What maps a batch to what it should give; the switches are set."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = habits.tf32
    forward: Forward = model.query if isinstance(model, ESCLTE) else model
    return torch.compile(forward) if habits.compile else forward


def step(
    state: checkpoint.State,
    forward: Forward,
    batch: tuple[Tensor, ...],
    recipe: Recipe,
    learning_rate: float,
    precision: str,
) -> dict[str, float] | None:
    """Move network and objective by one batch; leave them alone if a loss or gradient is not finite.

    Args:
        state: changed in place, except for its counters.
        forward: the network, or what takes its place in training.
        batch: what the network is given and, last, what it should give, each (B, ...): LR and HR in 0..1, or
            what `ESCLTE.query` takes and gives.
        recipe: gives `accumulate`, `clip` and the decay of the averaged weights.
        learning_rate: of this step.
        precision: of the network, fp32 or bf16; the objective works in float32.

    Returns:
        The losses by name; None if the step was left out.
    """
    weights: list[Tensor] = list(state.model.parameters())
    device = weights[0].device
    totals: dict[str, Tensor] = {}
    parts = (part.to(device).chunk(recipe.accumulate) for part in batch)
    for *given, wanted in zip(*parts, strict=True):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            found = forward(*given)
        losses = {
            name: loss / recipe.accumulate for name, loss in state.objective(found.float(), wanted).items()
        }
        torch.stack(list(losses.values())).sum().backward()
        totals = {name: totals.get(name, 0) + loss.detach() for name, loss in losses.items()}

    learning = (*weights, *state.objective.parameters())
    norm = nn.utils.get_total_norm([weight.grad for weight in learning if weight.grad is not None])
    values = torch.stack([*totals.values(), norm]).tolist()
    finite = all(map(math.isfinite, values))
    if finite:
        if recipe.clip:
            nn.utils.clip_grad_norm_(weights, recipe.clip)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate
        state.optimizer.step()
        share = 1 - ema_decay(recipe, state.iteration)
        with torch.no_grad():
            torch._foreach_lerp_(list(state.ema.parameters()), weights, share)
    state.optimizer.zero_grad()
    return dict(zip(totals, values, strict=False)) if finite else None


def _progress(state: checkpoint.State, budget: Budget, lr: float, meter: _Meter) -> dict[str, Any]:
    """The numbers of a log line; `loss` is the sum of `losses`, means over the steps taken."""
    left = budget.remaining(state.iteration, state.elapsed)
    losses = meter.means()
    return {
        "iteration": state.iteration,
        "loss": sum(losses.values()) if losses else None,
        "losses": losses,
        "lr": lr,
        "it_per_s": round(meter.steps / meter.seconds, 3),
        "elapsed": round(state.elapsed, 1),
        "eta": round(left, 1),
        "skipped": state.skipped,
    }


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; after that the signals act as before."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, frame: object) -> None:
        stop.set()
        put_back()

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        put_back()
