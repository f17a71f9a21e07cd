"""What to train with: one frozen dataclass, made by a function per recipe of the paper."""

import ast
import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import torch.nn.functional as F

from esc_sr.errors import UsageError, require

LOSSES = {"l1": F.l1_loss, "mse": F.mse_loss}
OPTIMIZERS = ("adamw", "muon")
REAL = ("real-mse", "real-gan")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how the weights move, apart from the network and the pictures.

    Attributes:
        name: which recipe it is.
        loss: what is made small: l1, or mse, which learns edges sooner in runs that are short.
        iterations: length of the full schedule, steps.
        warmup: steps over which the learning rate rises in a straight line from 0.
        milestones: steps of the full schedule at which the learning rate is multiplied by `gamma`.
        gamma: see `milestones`.
        decay: share of the run, at its end, over which the learning rate falls in a straight line to 0.
        optimizer: adamw; or muon, which moves the matrices inside the network, and AdamW the rest.
        lr: learning rate after warm-up, of AdamW.
        muon_lr: the same of Muon.
        betas: of AdamW.
        weight_decay: of AdamW.
        ema: decay per step of the averaged weights, which are the ones to keep.
        batch: crops per step.
        patch: side of an LR crop, px.
        scales: of `arbitrary` only: least and largest scale of a crop, drawn evenly between.
        queries: of `arbitrary` only: points per crop at which colours are compared.
        context: of `REAL` only: side of the LR pictures that crops are cut out of after degradation, px.
        pool: of `REAL` only: pairs of earlier batches kept to mix degradations.
        redraw: of `REAL` only: steps from one degraded batch to the next; in between, pairs are of the pool.
        clean: of `REAL` only: probability that an LR picture is reduced by bicubic and nothing else.
        flat: probability that a crop is flat or smooth and drawn, not of a picture; not for `arbitrary`.
        teacher_share: what the teacher's picture counts in the target, the rest is HR; where there is one.
            LR that is left `clean` has HR.
        weights: of `real-gan` only: what `loss`, perceptual and adversarial loss count.
        clip: largest norm of the network's gradient, longer ones are shortened; 0 for any.
        accumulate: parts that a batch is worked through in, to save memory; the step is the same.
        seed: of the initial weights, the crops and their degradation.
    """

    name: str
    loss: str
    iterations: int
    warmup: int
    milestones: tuple[int, ...]
    gamma: float
    lr: float
    betas: tuple[float, float]
    weight_decay: float
    ema: float
    batch: int
    patch: int
    accumulate: int
    seed: int
    scales: tuple[float, ...] = ()
    queries: int = 0
    context: int = 0
    pool: int = 0
    redraw: int = 1
    clean: float = 0.0
    flat: float = 0.0
    teacher_share: float = 1.0
    decay: float = 0.0
    optimizer: str = "adamw"
    muon_lr: float = 2e-3
    weights: tuple[float, ...] = ()
    clip: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that no run can work with."""
        rules = {
            "loss": (self.loss in LOSSES, f"one of {', '.join(LOSSES)}"),
            "iterations": (self.iterations >= 1, "at least 1"),
            "warmup": (0 <= self.warmup <= self.iterations, "from 0 to iterations"),
            "milestones": (list(self.milestones) == sorted(self.milestones), "in rising order"),
            "gamma": (0 < self.gamma <= 1, "above 0, at most 1"),
            "decay": (0 <= self.decay <= 1, "from 0 to 1"),
            "optimizer": (self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
            "lr": (0 < self.lr < float("inf"), "above 0"),
            "muon_lr": (0 < self.muon_lr < float("inf"), "above 0"),
            "betas": (all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 to below 1"),
            "weight_decay": (0 <= self.weight_decay < float("inf"), "0 or more"),
            "ema": (0 <= self.ema < 1, "from 0 to below 1"),
            "batch": (self.batch >= 1, "at least 1"),
            "patch": (self.patch >= 1, "at least 1"),
            "accumulate": (
                self.accumulate >= 1 and self.batch % self.accumulate == 0,
                f"a divisor of the batch of {self.batch}",
            ),
            "seed": (self.seed >= 0, "0 or more"),
            "scales": (
                self.name != "arbitrary" or (len(self.scales) == 2 and 1 <= self.scales[0] <= self.scales[1]),
                "two numbers from 1, the larger one last",
            ),
            "queries": (
                self.name != "arbitrary" or 1 <= self.queries <= self.patch**2,
                f"from 1 to the {self.patch**2} pixels of a crop",
            ),
            "context": (
                self.name not in REAL or self.context >= self.patch,
                f"at least the patch of {self.patch}",
            ),
            "pool": (self.name not in REAL or self.pool >= 1, "at least 1"),
            "redraw": (self.redraw >= 1, "at least 1"),
            "clean": (0 <= self.clean <= 1, "from 0 to 1"),
            "flat": (0 <= self.flat <= (self.name != "arbitrary"), "from 0 to 1, and 0 for arbitrary"),
            "teacher_share": (0 <= self.teacher_share <= 1, "from 0 to 1"),
            "weights": (
                self.name != "real-gan"
                or (len(self.weights) == 3 and all(0 <= weight < float("inf") for weight in self.weights)),
                "three numbers from 0",
            ),
            "clip": (0 <= self.clip < float("inf"), "0 or more"),
        }
        require(self, rules)


def classic() -> Recipe:
    """The paper's training on bicubic LR (Supp. 6.1): L1 loss, AdamW, 64 crops of 64 x 64 px.

    The paper names the loss, the optimizer, its betas, the learning rate, the number of iterations and the
    crops; warm-up, milestones, EMA and weight decay come from the released configuration. The two disagree on
    betas: the paper's (0.9, 0.999) stands here, the released configuration has (0.9, 0.9).
    """
    return Recipe(
        name="classic",
        loss="l1",
        iterations=500_000,
        warmup=20_000,
        milestones=(250_000, 400_000, 450_000, 475_000, 490_000),
        gamma=0.5,
        lr=5e-4,
        betas=(0.9, 0.999),
        weight_decay=0.0,
        ema=0.999,
        batch=64,
        patch=64,
        accumulate=1,
        seed=0,
    )


def arbitrary() -> Recipe:
    """The paper's training of ESC+LTE (Supp. 6.2): 1000 epochs of LTE's recipe with 64 x 64 px crops.

    An epoch is 20 crops of each of DIV2K's 800 pictures, so 500 steps of 32; the scale of each is drawn from
    1 to 4, and colours are compared at 2304 points. Adam is AdamW without weight decay. No averaging.
    """
    return replace(
        classic(),
        name="arbitrary",
        warmup=0,
        milestones=(250_000, 400_000, 450_000, 475_000),
        lr=2e-4,
        ema=0.0,
        batch=32,
        scales=(1.0, 4.0),
        queries=2304,
    )


def real_mse() -> Recipe:
    """The paper's first stage on realistic LR (Supp. 6.3): L1 loss, 400,000 steps of 48 crops of 64 x 64 px.

    The paper names these; the learning rate and its milestone come from the released configuration, which has
    1,000,000 iterations, and betas and warm-up from `classic`.
    """
    return replace(
        classic(),
        name="real-mse",
        iterations=400_000,
        milestones=(100_000,),
        gamma=0.4,
        batch=48,
        context=100,
        pool=180,
    )


def real_gan() -> Recipe:
    """The paper's second stage on realistic LR (Supp. 6.3): L1 + perceptual + 0.1 adversarial loss.

    Optimizer and schedule, for the discriminator too, come from the released configuration; Adam is AdamW
    without weight decay. Its milestone is the end of the run.
    """
    return replace(
        real_mse(),
        name="real-gan",
        warmup=0,
        milestones=(400_000,),
        gamma=0.5,
        lr=1e-4,
        betas=(0.9, 0.99),
        weights=(1.0, 1.0, 0.1),
    )


def small(recipe: Recipe, window: int) -> Recipe:
    """What moves most on one or two CPU cores, in place of the paper's values.

    Muon, few crops of two windows' width, a rate that is constant and then falls to 0, some smooth crops;
    docs/recipes.md has the trials.

    Args:
        recipe: any but real-gan, whose losses need the paper's rate.
        window: side of the network's attention window, px.

    Raises:
        UsageError: the recipe is real-gan.
    """
    if recipe.name == "real-gan":
        raise UsageError("--small: real-gan has no such values; use it with real-mse, classic or arbitrary")
    short = replace(
        recipe,
        loss="mse" if recipe.name == "classic" else recipe.loss,
        warmup=recipe.iterations // 10_000,
        milestones=(),
        decay=0.4,
        optimizer="muon",
        lr=1.5e-4,
        muon_lr=1.5e-3,
        betas=(0.9, 0.99),
        ema=0.999,
        batch=3,
        patch=max(64, 2 * window),
        flat=0.0 if recipe.name == "arbitrary" else 0.1,
    )
    if recipe.name in REAL:
        return replace(short, context=max(80, short.patch), pool=180, redraw=4, clean=0.25)
    return short


def override(recipe: Recipe, settings: Sequence[str], config: Path | None = None) -> Recipe:
    """Replace fields of a recipe by `key=value` texts, as the command line gives them, and by a file.

    Args:
        recipe: what to change.
        settings: of several for one field the last holds, before the file.
        config: a .toml file of fields, for example one that `to_toml` wrote.

    Raises:
        UsageError: no such field, a value of the wrong type or out of range, or a file that cannot be read,
            or is of another recipe.
    """
    types = get_type_hints(Recipe)
    allowed = [field.name for field in fields(Recipe) if field.name != "name"]
    changes: dict[str, object] = {}
    for key, value in (_read(config, recipe) if config else {}).items():
        if key not in allowed:
            raise UsageError(f"{config}: has {key}, which is none of {', '.join(allowed)}")
        changes[key] = _convert(f"{config}: {key} = {value!r}", value, types[key])
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or key not in allowed:
            raise UsageError(f"--set {setting}: write key=value with one of {', '.join(allowed)}")
        value = text if types[key] is str else _evaluate(text)
        changes[key] = _convert(f"--set {setting}", value, types[key])
    return replace(recipe, **changes)  # type: ignore[arg-type]


def to_toml(recipe: Recipe) -> str:
    """All fields of a recipe as lines of TOML, which `override` reads."""
    values = (
        (key, list(value) if isinstance(value, tuple) else value) for key, value in asdict(recipe).items()
    )
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values)


def _read(config: Path, recipe: Recipe) -> dict[str, object]:
    """What a file says of the recipe's fields; its name has to be the recipe's, if it is there."""
    try:
        content = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{config}: cannot be read as TOML ({reason}); --print-config shows one") from error
    if content.pop("name", recipe.name) != recipe.name:
        raise UsageError(
            f"{config}: is of another recipe than {recipe.name}; use that one, or take its name out"
        )
    return content


def _evaluate(text: str) -> object:
    """The number or the numbers that a text stands for; any other text as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _convert(given: str, value: object, wanted: type) -> object:
    """A value as an int, float, str or tuple of these; `given` is what an error names."""
    if get_origin(wanted) is tuple:
        kinds = get_args(wanted)
        values = value if isinstance(value, tuple | list) else (value,)
        if kinds[-1] is not Ellipsis and len(values) != len(kinds):
            raise UsageError(f"{given}: {len(kinds)} numbers needed, written like 0.9,0.99")
        return tuple(_convert(given, item, kinds[0]) for item in values)
    if wanted is str:
        if not isinstance(value, str):
            raise UsageError(f"{given}: must be a text")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float) if wanted is float else int):
        raise UsageError(f"{given}: must be {'a whole number' if wanted is int else 'a number'}")
    return float(value) if wanted is float else value
