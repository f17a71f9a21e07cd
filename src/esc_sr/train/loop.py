"""The training loop: one for all recipes, straight from the first step to the last."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from esc_sr.data.pairs import Pair
from esc_sr.errors import EscError
from esc_sr.train import checkpoint
from esc_sr.train.monitor import Export, Monitor, RunOptions
from esc_sr.train.schedule import learning_rate
from esc_sr.train.setup import Report
from esc_sr.train.step import backup, prepare, step
from esc_sr.train.stop import Stop, Stopped
from esc_sr.train.team import ALONE, Team
from esc_sr.train.trial import expected_time

MAX_BAD_STEPS = 10
"""So many steps in a row may have a loss or gradient that is not finite; one more ends the run.
Those by which fp16 finds a scale for its gradients, at most 16 in a row, do not count."""

_SETTLED = 3
"""The step of a run, counted from 1, that takes on a GPU about as long as those after it."""


def train(
    state: checkpoint.State,
    batches: Iterator[tuple[Tensor, ...]],
    plan: checkpoint.Plan,
    out: Path,
    *,
    stop: Stop,
    held_out: Sequence[Pair] = (),
    options: RunOptions = RunOptions(),
    export: Export = lambda name: None,
    report: Report = lambda record: None,
    team: Team = ALONE,
) -> bool:
    """Train `state.model` from where the state is to the end of the budget, (Supp. 6.1).

    Every record goes to `report` and, as one JSON line, to `out/log.jsonl`. A validation leaves a picture in
    `out/validation` too: a cut-out of the first held-out one, beside bicubic and HR. The state is saved to
    `last.pt` now and then and at the end. A wish to stop breaks off the step or validation at hand, which is
    then as if it had not begun, and saves what was there before.

    In a team, each process has the same state and takes its share of every batch. The first one does all that
    is done beside training, and its clock counts; a signal to any of them stops all in the same step, after
    the part of the batch at hand.

    Args:
        state: network, averaged weights, objective, optimizer and counters; changed in place.
        batches: what the network is given and, last, what it should give, each (B, ...); from the step of the
            state on.
        plan: what to do in a step, and when to end.
        out: an existing folder.
        stop: when to end before the budget does.
        held_out: pairs to validate the averaged weights on.
        options: what the run does beside training.
        export: writes the averaged weights under a name, "ema", or "best" of the validations so far.
        report: called with each log record.
        team: the processes that train together.

    Returns:
        True if the run reached its end, False if it was stopped.

    Raises:
        Stopped: it was stopped before it had taken a step, and nothing was written.
        EscError: more than `MAX_BAD_STEPS` steps in a row were not finite; they have left
            the weights alone, and the state is saved.
        DataError: a checkpoint or log line cannot be written; the checkpoints that were there are intact.
    """
    state.model.train()
    forward = prepare(state.model, team, tf32=options.tf32, compile=options.compile)
    monitor = Monitor(team.leads, state, plan, out, options, held_out, export, report, stop)
    first, bad = state.iteration, 0
    while True:
        started = time.perf_counter()
        stopped, state.elapsed = team.agree(stop.wished, state.elapsed)
        progress = plan.budget.progress(state.iteration, state.elapsed)
        if stopped or progress >= 1:
            break
        lr = learning_rate(plan.recipe, plan.budget, progress)
        scale_before = state.scaler.get_scale()
        undo = backup(state)
        try:
            with stop.at_once(team.size == 1):
                batch = next(batches)
            losses = step(state, forward, batch, plan.recipe, lr, options.precision, team, stop)
        except Stopped:
            undo()
            stopped = True
            break
        seconds = time.perf_counter() - started
        state.iteration += 1
        state.elapsed += seconds
        state.skipped += losses is None
        fp16_adapts = 1 <= state.scaler.get_scale() < scale_before
        bad = 0 if losses or fp16_adapts else bad + 1
        if bad > MAX_BAD_STEPS:
            monitor.save()
            raise EscError(
                f"step {state.iteration}: {bad} in a row without a finite loss and gradient; the weights "
                f"from before are saved in {out}: go on with --resume in fp32, or from its "
                "ema.safetensors with a lower learning rate"
            )
        if state.iteration == first + _SETTLED and next(state.model.parameters()).device.type != "cpu":
            report({"event": "note", "text": expected_time(plan, state, seconds)})
        monitor.after_step(lr, losses, seconds)
    if stopped and state.iteration == first:
        raise Stopped
    return monitor.finish(stopped)
