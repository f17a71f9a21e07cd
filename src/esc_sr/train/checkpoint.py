"""The state of a run on disk: written atomically, the one before kept, read without running code from it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from esc_sr.data.pool import PairPool
from esc_sr.errors import DataError, UsageError, WeightsError
from esc_sr.machine.claim import whole_file
from esc_sr.train.recipes import Recipe
from esc_sr.train.recipes.settings import Kind
from esc_sr.train.schedule import Budget
from esc_sr.weights.checkpoint import is_finite
from esc_sr.weights.container import check_archive
from esc_sr.weights.facts import first_line

LAST, PREVIOUS = "last.pt", "previous.pt"


@dataclass
class State:
    """All that changes during a run; a run that goes on from it takes the same steps as without a stop.

    In a team it is the first process's, whose pool the others then have too in the place of their own.

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
_KINDS: dict[str, Any] = {
    **dict.fromkeys((*_PARTS, "scaler", "recipe", "budget", "config", "scores"), dict),
    **dict.fromkeys(("iteration", "skipped"), int),
    "elapsed": float | int,
    "hardware": list,
    "best": float | None,
    **dict.fromkeys(("started_from", "vgg", "teacher"), str | None),
}
"""What a checkpoint holds."""

_SETTINGS = ("recipe", "budget", "config", "scores")
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
    """Write `out/last.pt`; the file that was there becomes `out/previous.pt`, unless it is damaged.

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
    last = out / LAST
    intact = f"the checkpoint before it is intact in {out}" if last.exists() else "nothing is saved so far"
    for name in ("model", "ema", "objective"):
        if not all(map(is_finite, content[name].values())):
            raise DataError(
                f"{last}: not written, since the weights are no longer finite after step {state.iteration}; "
                f"{intact}: start another run --from its ema.safetensors with a lower learning rate"
            )
    file = None
    try:
        with whole_file(last, before=out / PREVIOUS if _is_whole(last) else None) as disk:
            file = _Remembering(disk)
            torch.save(content, cast(IO[bytes], file))
    except (OSError, RuntimeError) as error:
        cause = (file and file.error) or error  # torch does not tell what the disk said
        reason = (cause.strerror if isinstance(cause, OSError) else None) or first_line(cause)
        raise DataError(f"{last}: cannot be written ({reason}); {intact}") from error


def _is_whole(path: Path) -> bool:
    """Whether a checkpoint's check sums are right."""
    try:
        check_archive(path)
    except ValueError:
        return False
    return True


class _Remembering:
    """A file that remembers what the disk said."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def is_there(out: Path) -> bool:
    """Whether a folder holds a checkpoint, perhaps a damaged one."""
    return any((out / name).exists() for name in (LAST, PREVIOUS))


def load(out: Path, note: Callable[[str], object] = lambda text: None) -> dict[str, Any]:
    """Read `out/last.pt`, or `out/previous.pt` where that is missing or damaged.

    Args:
        out: folder of a run.
        note: told in a line that it is the latter.

    Raises:
        UsageError: there is neither.
        WeightsError: what is there is damaged or no checkpoint of a run.
    """
    problems: list[str] = []
    for path in (out / LAST, out / PREVIOUS):
        try:
            if not path.exists():
                raise ValueError("missing")
            content = _read(path)
        except ValueError as error:
            problems.append(f"{path.name} is {error}")
            continue
        if problems:
            note(f"{out}: {problems[0]}; going on from {PREVIOUS}, of step {content['iteration']}")
        return content
    if not is_there(out):
        raise UsageError(
            f"{out}: no {LAST} to go on from; give the --out of a run that has saved, or start one"
        )
    raise WeightsError(f"{out}: {' and '.join(problems)}; start another run --from its ema.safetensors")


def _read(path: Path) -> dict[str, Any]:
    """A checkpoint that has all parts, each of its kind.

    Raises:
        ValueError: it is none, with the reason to follow "is".
    """
    try:
        check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes torch raise
        raise ValueError(f"damaged ({first_line(error)})") from error
    if isinstance(content, dict):
        content = _ADDED | content
    if not isinstance(content, dict) or not _KINDS.keys() <= content.keys():
        raise ValueError("no checkpoint of a training run")
    strange = [name for name, kind in _KINDS.items() if not isinstance(content[name], kind)]
    for name in ("model", "ema", "objective", "pool"):
        if name not in strange and not all(map(_is_tensor, content[name].values())):
            strange.append(name)
    for name in ("model", "ema", "objective"):
        if name not in strange and not all(map(is_finite, content[name].values())):
            raise ValueError(f"damaged (not all is a finite number in {name})")
    strange += [name for name in _SETTINGS if name not in strange and not _is_plain(content[name])]
    try:
        Budget(**content["budget"])
    except (TypeError, UsageError):
        strange.append("budget")
    if strange:
        raise ValueError(f"damaged ({strange[0]} is of another kind)")
    return content


def _is_plain(settings: dict[Any, Any]) -> bool:
    """Whether they have names, and values that JSON has."""
    try:
        json.dumps(settings)
    except (TypeError, ValueError, RecursionError):
        return False
    return all(isinstance(name, str) for name in settings)


def _is_tensor(value: object) -> bool:
    """Whether it is a tensor of plain numbers in memory."""
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def recipe_of(content: Mapping[str, Any], recipe: Kind) -> Kind:
    """The recipe of a loaded checkpoint.

    Args:
        content: its settings that the recipe has no more are left out; those that it lacks have their
            defaults.
        recipe: the same recipe, with any settings.

    Raises:
        UsageError: the checkpoint is of another recipe.
        WeightsError: its settings are of another kind.
    """
    saved: dict[str, Any] = content["recipe"]
    if saved.get("name") != recipe.name:
        raise UsageError(
            f"that run is of the recipe {saved.get('name')}, not {recipe.name}; train by that one"
        )
    values: dict[str, Any] = {}
    for entry in fields(recipe):
        value = saved.get(entry.name, entry.default)
        if value is not MISSING:
            values[entry.name] = tuple(value) if isinstance(value, list) else value
    try:
        return replace(recipe, **values)
    except TypeError as error:
        raise WeightsError(f"the recipe in the checkpoint cannot be read ({first_line(error)})") from error


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
        _check_moments(state.optimizer)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(f"checkpoint does not fit its own network: {first_line(error)}") from error
    for name in _COUNTERS:
        setattr(state, name, content[name])


def _check_moments(optimizer: Optimizer) -> None:
    """Refuse what an optimizer remembers of other weights; it does not look itself."""
    for weight, known in optimizer.state.items():
        if any(isinstance(t, Tensor) and t.ndim and t.shape != weight.shape for t in known.values()):
            raise ValueError("the optimizer knows weights of other shapes")
