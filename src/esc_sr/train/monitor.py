"""What is done beside training, by the first process of a team: log, checkpoints, validation."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from esc_sr.data.pairs import Pair
from esc_sr.errors import DataError, UsageError
from esc_sr.evaluate import Protocol, Scores, predict
from esc_sr.evaluate.scores import bicubic
from esc_sr.image import Picture, write_image
from esc_sr.image.sheet import Panel, strip
from esc_sr.train import checkpoint
from esc_sr.train.setup import Report
from esc_sr.train.stop import Stop, Stopped

Export = Callable[[str], object]
Losses = dict[str, float]

_LONG_SILENCE = 300
"""Seconds of training after which a log line comes in any case."""


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; only the first three change the weights it arrives at, by rounding.

    Attributes:
        precision: fp32, or bf16 or fp16 for autocast of the network to these.
        tf32: as of `step.prepare`.
        compile: whether the network is compiled, which takes minutes and pays in long runs.
        save_minutes: time between two checkpoints.
        val_minutes: time between two validations.
        val_every: steps between two validations; None leaves them to `val_minutes`.
        log_every: steps per log line; where these take longer than five minutes, a line comes then.
        tensorboard: whether the numbers of log and validation go to `out/tensorboard` as well.
        device: as of `machine.device.pick_device`; of several processes, "cuda" gives each a GPU of its own.
    """

    precision: str = "fp32"
    tf32: bool | None = None
    compile: bool = False
    save_minutes: float = 3.0
    val_minutes: float = 15.0
    val_every: int | None = None
    log_every: int = 50
    tensorboard: bool = False
    device: str = "cpu"


@dataclass
class Monitor:
    """Logs, saves and validates a run, in its folder; each method does nothing where another process leads.

    Attributes:
        leads: whether this process does it.
        state: of the run.
        plan: of the run.
        out: folder of the run.
        options: when to do what.
        held_out: pairs to validate the averaged weights on.
        export: writes the averaged weights under a name: "ema" after every save and the last validation,
            "best" when a validation has the highest PSNR so far.
        report: called with each record, which is a line of `out/log.jsonl` as well.
        stop: breaks validations off.

    Each validation leaves a picture, `out/validation/ITERATION.png`: a cut-out of the first held-out one.
    """

    leads: bool
    state: checkpoint.State
    plan: checkpoint.Plan
    out: Path
    options: RunOptions
    held_out: Sequence[Pair]
    export: Export
    report: Report
    stop: Stop
    _losses: list[Losses] = field(default_factory=list)
    _steps: int = 0
    _seconds: float = 0.0

    def __post_init__(self) -> None:
        """Begin to count the time to the next checkpoint and validation."""
        self._saved = self._validated = self.state.elapsed
        self._scored: int | None = None  # the step after which the last validation was

    @cached_property
    def _board(self) -> Any:
        """TensorBoard's writer, if it is wanted; makes its folder."""
        return find_board()(str(self.out / "tensorboard")) if self.options.tensorboard else None

    def after_step(self, lr: float, losses: Losses | None, seconds: float) -> None:
        """Log, save and validate where it is time; None is a step left out."""
        if not self.leads:
            return
        self._steps += 1
        self._seconds += seconds
        self._losses += [losses] if losses else []
        if self.state.iteration % self.options.log_every == 0 or self._seconds >= _LONG_SILENCE:
            self._log("train", **self._progress(lr))
            self._losses, self._steps, self._seconds = [], 0, 0.0
        started = time.perf_counter()
        if self.state.elapsed - self._saved >= 60 * self.options.save_minutes:
            self.save()
            self._saved = self.state.elapsed
        if self.held_out and self._validation_is_due():
            self._validate()
            self._validated = self.state.elapsed
        self.state.elapsed += time.perf_counter() - started

    def save(self) -> None:
        """Write a checkpoint, and export."""
        if self.leads:
            checkpoint.save(self.state, self.plan, self.out)
            self.export("ema")

    def finish(self, stopped: bool) -> bool:
        """Save, and validate at the end of a run that was not stopped; tell whether all of that is done."""
        self.save()
        if not self.leads:
            return not stopped
        if self.held_out and not stopped and self._scored != self.state.iteration:
            stopped = not self._validate()
            self.save()  # with its scores, and the best so far
        self._log("stopped" if stopped else "finished", iteration=self.state.iteration)
        return not stopped

    def _validation_is_due(self) -> bool:
        """Whether so many steps are done, or so much time has passed."""
        if self.options.val_every is not None:
            return self.state.iteration % self.options.val_every == 0
        return self.state.elapsed - self._validated >= 60 * self.options.val_minutes

    def _validate(self) -> bool:
        """Score the averaged weights, and draw what they make of the first picture; False if broken off."""
        try:
            with self.stop.at_once():
                scores = self.plan.recipe.validate(self.state.ema, self.held_out, self.plan.scale)
            self._keep_scores(scores)
            with self.stop.at_once():
                self._draw()
        except Stopped:
            return False
        return True

    def _keep_scores(self, scores: Scores) -> None:
        """Note scores, and export the weights if these are the best."""
        self.state.scores = {"iteration": self.state.iteration, **scores._asdict()}
        self._scored = self.state.iteration
        self._log("validation", **self.state.scores)
        if self.state.best is None or scores.psnr > self.state.best:
            self.state.best = scores.psnr
            self.export("best")

    def _draw(self) -> None:
        """Put what the averaged weights make of the first picture beside bicubic and HR."""
        network, iteration, scale = self.state.ema, self.state.iteration, self.plan.scale
        name, lr, hr = self.held_out[0]
        sr = np.rint(predict(network, lr, scale, Protocol.of(network))).astype(np.uint8)
        target = self.out / "validation" / f"{iteration:06}.png"
        with _writing(target.parent):
            target.parent.mkdir(exist_ok=True)
        panels = Panel(f"{name}, bicubic", bicubic(lr, scale)), Panel(f"step {iteration}", sr)
        write_image(Picture(strip([*panels, Panel("HR", hr)])), target, overwrite=True)

    def _log(self, event: str, **facts: Any) -> None:
        """Write and report a record."""
        record = {"event": event, **facts, "elapsed": round(self.state.elapsed, 1)}
        with _writing(self.out / "log.jsonl"):
            with open(self.out / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        self.report(record)
        if self._board:
            for name, value in _scalars(record):
                self._board.add_scalar(name, value, self.state.iteration)
            self._board.flush()

    def _progress(self, lr: float) -> dict[str, Any]:
        """The numbers of a log line; `loss` is the sum of `losses`, means over the steps taken."""
        names = self._losses[0] if self._losses else ()
        losses = {name: sum(step[name] for step in self._losses) / len(self._losses) for name in names}
        left = self.plan.budget.remaining(self.state.iteration, self.state.elapsed)
        return {
            "iteration": self.state.iteration,
            "loss": sum(losses.values()) if losses else None,
            "losses": losses,
            "lr": lr,
            "it_per_s": round(self._steps / self._seconds, 3),
            "eta": round(left, 1),
            "skipped": self.state.skipped,
        }


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the disk says into an error that names the file.

    Raises:
        DataError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); the last checkpoint is intact"
        ) from error


def find_board() -> Any:
    """TensorBoard's writer, which takes a folder.

    Raises:
        UsageError: it is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError('--tensorboard needs TensorBoard: pip install "esc-sr[tensorboard]"') from error
    return SummaryWriter


def _scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """What is drawn of a record: loss and losses, lr and speed; or PSNR and SSIM."""
    for name in ("loss", "lr", "it_per_s", "psnr", "ssim"):
        if record.get(name) is not None:
            yield name, record[name]
    for name, value in record.get("losses", {}).items():
        yield f"losses/{name}", value
