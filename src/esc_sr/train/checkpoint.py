"""The state of a run on disk: written atomically, the one before kept, read without running code from it."""

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from esc_sr.data.pool import PairPool
from esc_sr.errors import DataError, UsageError, WeightsError
from esc_sr.machine.claim import whole_file
from esc_sr.train.recipes import Recipe
from esc_sr.train.recipes.settings import Kind
from esc_sr.train.schedule import Budget


@dataclass
class State:
    """All that changes during a run; a run that goes on from it takes the same steps as without a stop.

    Attributes:
        model: the network in training.
        ema: its averaged weights.
        objective: what is made small, as `losses` describes it.
        optimizer: of the model and of what the objective learns.
        pool: pairs of earlier batches; empty unless the recipe's `make_pool` gives one.
        scaler: of the losses, so that gradients in fp16 do not vanish; enabled for that precision only.
        iteration: steps taken.
        elapsed: seconds of training, validation and saving; the time between stop and resume does not count.
        skipped: steps left out because loss or gradient were not finite.
        hardware: what the run has used so far, without repeats.
        scores: the last validation, if any.
        best: the highest PSNR of the validations so far, dB.
        started_from: name of the weights file that the run began with, if any.
        vgg: digest of the weights of the perceptual loss, if there is one.
        teacher: digest of the teacher, if there is one.
    """

    model: nn.Module
    ema: nn.Module
    objective: nn.Module
    optimizer: Optimizer
    pool: PairPool = field(default_factory=PairPool)
    scaler: GradScaler = field(default_factory=lambda: GradScaler("cpu", enabled=False))
    iteration: int = 0
    elapsed: float = 0.0
    skipped: int = 0
    hardware: list[str] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    started_from: str | None = None
    vgg: str | None = None
    teacher: str | None = None


_COUNTERS = ("iteration", "elapsed", "skipped", "hardware", "scores", "best", "started_from")
_PARTS = ("model", "ema", "objective", "optimizer", "pool")
_CONTENT = {*_PARTS, "scaler", "vgg", "teacher", "recipe", "budget", "config", *_COUNTERS}
_ADDED = {
    "objective": {},
    "pool": PairPool().state_dict(),
    "scaler": {},
    "vgg": None,
    "teacher": None,
    "best": None,
}  # what older checkpoints do without


@dataclass(frozen=True)
class Plan:
    """What a run is, from its first step to its last.

    Attributes:
        recipe: what to do in a step, and beside it.
        budget: when to end; the schedule is fitted to it.
        config: sizes of the network.
        scale: HR pixels per LR pixel along a side of the pairs to validate on.
    """

    recipe: Recipe
    budget: Budget
    config: Mapping[str, Any]
    scale: int = 2


def save(state: State, plan: Plan, out: Path) -> None:
    """Write `out/last.pt`; the file that was there becomes `out/previous.pt`.

    Raises:
        DataError: the folder cannot be written; the files that were there are untouched.
    """
    content = {
        **{name: getattr(state, name).state_dict() for name in _PARTS},
        "scaler": state.scaler.state_dict(),
        "vgg": state.vgg,
        "teacher": state.teacher,
        **{name: getattr(state, name) for name in _COUNTERS},
        "recipe": asdict(plan.recipe),
        "budget": asdict(plan.budget),
        "config": dict(plan.config),
    }
    last = out / "last.pt"
    try:
        with whole_file(last, before=out / "previous.pt") as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{last}: cannot be written ({error}); the checkpoint before it is intact") from error


def load(out: Path) -> dict[str, Any]:
    """Read `out/last.pt`, or `out/previous.pt` where only that is there.

    Raises:
        UsageError: there is neither.
        WeightsError: the file is damaged or no checkpoint of a run.
    """
    path = next((path for path in (out / "last.pt", out / "previous.pt") if path.exists()), None)
    if path is None:
        raise UsageError(
            f"{out}: no last.pt to go on from; give the --out of a run that has saved, or start one"
        )
    try:
        if not zipfile.is_zipfile(path):
            raise EOFError("cut off, or another kind of file")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path}: damaged ({_line(error)}); move it away to use previous.pt") from error
    if isinstance(content, dict):
        content = _ADDED | content
    if not isinstance(content, dict) or not _CONTENT <= content.keys():
        raise WeightsError(f"{path}: not a checkpoint of a training run; give the --out of one")
    return content


def recipe_of(content: Mapping[str, Any], recipe: Kind) -> Kind:
    """The recipe of a loaded checkpoint.

    Args:
        content: its settings that the recipe has no more are left out; those that it lacks have their
            defaults.
        recipe: the same recipe, with any settings.

    Raises:
        UsageError: the checkpoint is of another recipe.
    """
    saved: dict[str, Any] = content["recipe"]
    if saved["name"] != recipe.name:
        raise UsageError(f"that run is of the recipe {saved['name']}, not {recipe.name}; train by that one")
    values: dict[str, Any] = {}
    for entry in fields(recipe):
        value = saved.get(entry.name, entry.default)
        if value is not MISSING:
            values[entry.name] = tuple(value) if isinstance(value, list) else value
    return replace(recipe, **values)


def restore(state: State, content: Mapping[str, Any], plan: Plan) -> None:
    """Put a loaded checkpoint into a run of the same network, recipe and perceptual loss.

    Raises:
        UsageError: the checkpoint is of another network, recipe or perceptual loss; says what differs.
    """
    saved_recipe = asdict(recipe_of(content, plan.recipe))
    settings = {"network": (content["config"], plan.config), "recipe": (saved_recipe, asdict(plan.recipe))}
    for what, (saved, given) in settings.items():
        differ = [key for key in sorted({*saved, *given}) if saved.get(key) != given.get(key)]
        if differ:
            pairs = ", ".join(f"{key} was {saved.get(key)} and is now {given.get(key)}" for key in differ)
            raise UsageError(f"resume with another {what}: {pairs}; keep it, or start anew with --from")
    if content["vgg"] not in (None, state.vgg):  # None in older checkpoints too
        raise UsageError(
            "resume with another --vgg: its weights are not those of the run so far; keep its file"
        )
    if content["teacher"] != state.teacher:
        raise UsageError(
            "resume with another --teacher than the run so far; keep it, or start anew with --from"
        )
    try:
        for name in _PARTS:
            getattr(state, name).load_state_dict(content[name])
        if content["scaler"]:  # empty if the run was in another precision
            state.scaler.load_state_dict(content["scaler"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise WeightsError(f"checkpoint does not fit its own network: {_line(error)}") from error
    for name in _COUNTERS:
        setattr(state, name, content[name])


def _line(error: Exception) -> str:
    """The first line of a message."""
    return (str(error).splitlines() or [type(error).__name__])[0]
