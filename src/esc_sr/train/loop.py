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
from typing import Protocol as Interface

import torch
from torch import Tensor, nn

from esc_sr.data.pairs import Pair
from esc_sr.errors import EscError
from esc_sr.evaluate import Protocol, evaluate
from esc_sr.network import ESCLTE
from esc_sr.train import checkpoint
from esc_sr.train.recipes import LOSSES, Recipe
from esc_sr.train.schedule import Budget, ema_decay, learning_rate

Report = Callable[[Mapping[str, Any]], None]


class Sampler(Interface):
    """Where batches come from."""

    def sample(self, batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw what the network is given, each (batch, ...), and last what it should give."""


MAX_BAD_STEPS = 10
"""So many steps in a row may have a loss or gradient that is not finite; one more ends the run."""


@dataclass(frozen=True)
class Habits:
    """How a run goes about it; apart from `precision` nothing here changes the weights it arrives at.

    Attributes:
        precision: fp32, or bf16 for autocast to bfloat16.
        save_minutes: time between two checkpoints.
        val_minutes: time between two validations.
        log_every: steps per log line.
    """

    precision: str = "fp32"
    save_minutes: float = 3.0
    val_minutes: float = 15.0
    log_every: int = 50


@dataclass
class _Meter:
    """Losses and seconds since the last log line, and the steps left out in a row."""

    losses: list[float] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    bad: int = 0

    def add(self, loss: float, seconds: float) -> None:
        """Count a step."""
        self.steps += 1
        self.seconds += seconds
        if math.isfinite(loss):
            self.losses.append(loss)
        self.bad = 0 if math.isfinite(loss) else self.bad + 1


def train(
    state: checkpoint.State,
    sampler: Sampler,
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
        state: network, averaged weights, optimizer and counters; changed in place.
        sampler: gives batches.
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
    device = next(state.model.parameters()).device
    state.model.train()
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
            batch = sampler.sample(recipe.batch, state.generator)
            loss = step(state, batch, recipe, lr, device, habits.precision)
            seconds = time.perf_counter() - started
            meter.add(loss, seconds)
            state.iteration += 1
            state.elapsed += seconds
            state.skipped += not math.isfinite(loss)
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


def step(
    state: checkpoint.State,
    batch: tuple[Tensor, ...],
    recipe: Recipe,
    learning_rate: float,
    device: torch.device,
    precision: str,
) -> float:
    """Move the weights by one batch; leave them alone if loss or gradient is not finite.

    Args:
        state: changed in place, except for its counters.
        batch: what the network is given and, last, what it should give, each (B, ...): LR and HR in 0..1, or
            what `ESCLTE.query` takes and gives.
        recipe: gives `accumulate` and the decay of the averaged weights.
        learning_rate: of this step.
        device: where the network is.
        precision: fp32 or bf16.

    Returns:
        The loss; not finite if the step was left out.
    """
    total = torch.zeros((), device=device)
    forward = state.model.query if isinstance(state.model, ESCLTE) else state.model
    parts = (part.to(device).chunk(recipe.accumulate) for part in batch)
    for *given, wanted in zip(*parts, strict=True):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            found = forward(*given)
        loss = LOSSES[recipe.loss](found.float(), wanted) / recipe.accumulate
        loss.backward()
        total += loss.detach()

    gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
    value = float(total + 0 * nn.utils.get_total_norm(gradients))  # 0 * inf and 0 * nan are nan
    if math.isfinite(value):
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate
        state.optimizer.step()
        share = 1 - ema_decay(recipe, state.iteration)
        with torch.no_grad():
            torch._foreach_lerp_(list(state.ema.parameters()), list(state.model.parameters()), share)
    state.optimizer.zero_grad()
    return value


def _progress(
    state: checkpoint.State, budget: Budget, lr: float, meter: _Meter
) -> dict[str, float | int | None]:
    """The numbers of a log line."""
    left = budget.remaining(state.iteration, state.elapsed)
    return {
        "iteration": state.iteration,
        "loss": sum(meter.losses) / len(meter.losses) if meter.losses else None,
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
