"""What a recipe is: settings, and the parts of a run that these decide on."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from esc_sr import families
from esc_sr.data.crops import Batch
from esc_sr.data.pairs import Pair, make_pairs
from esc_sr.data.pictures import Decoded
from esc_sr.data.pool import PairPool
from esc_sr.errors import UsageError, require
from esc_sr.evaluate import Protocol, Scores, evaluate
from esc_sr.families.contract import Config
from esc_sr.train.losses import LOSSES, Distance
from esc_sr.train.setup import Setup
from esc_sr.train.teacher import Teacher

OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class Recipe(ABC):
    """Everything that decides how the weights move, apart from the network and the pictures.

    A recipe is a subclass, with settings of its own as further fields, and with the methods that it does
    otherwise; only `cut` has to be there. The defaults of the fields are those of `Classic`.

    Attributes:
        model: the network that is trained unless another is named.
        scale: likewise the scale.
        name: which recipe it is.
        loss: what is made small: l1, or mse, which learns edges sooner in runs that are short.
        iterations: length of the full schedule, steps.
        warmup: steps over which the learning rate rises in a straight line from 0.
        milestones: steps of the full schedule at which the learning rate is multiplied by `gamma`.
        gamma: see `milestones`.
        lr: learning rate after warm-up, of AdamW.
        betas: of AdamW.
        weight_decay: of AdamW.
        ema: decay per step of the averaged weights, which are the ones to keep.
        batch: crops per step.
        patch: side of an LR crop, px.
        accumulate: parts that a batch is worked through in, to save memory; the step is the same but
            for rounding, and for what a network or a discriminator notes of each part it sees. 0 has
            a run choose as many as it takes, and keep these.
        seed: of the initial weights, the crops and their degradation.
        teacher_share: what the teacher's picture counts in the target, the rest is HR; where there is one.
        decay: share of the run, at its end, over which the learning rate falls in a straight line to 0.
        optimizer: adamw; or muon, which moves the matrices inside the network, and AdamW the rest.
        muon_lr: learning rate after warm-up, of Muon.
        clip: largest norm of the network's gradient, longer ones are shortened; 0 for any.
        per_epoch: crops of each picture in an epoch, whose order is random, and after which all have come
            equally often; 0 draws the picture of each crop anew.
        places: random places of a picture, of which a crop is the one with the most detail.

    Raises:
        UsageError: a value that no run can work with.
    """

    model: ClassVar[str] = "esc-light"
    scale: ClassVar[int] = 2

    name: str = ""
    loss: str = "l1"
    iterations: int = 500_000
    warmup: int = 20_000
    milestones: tuple[int, ...] = (250_000, 400_000, 450_000, 475_000, 490_000)
    gamma: float = 0.5
    lr: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    ema: float = 0.999
    batch: int = 64
    patch: int = 64
    accumulate: int = 0
    seed: int = 0
    teacher_share: float = 1.0
    decay: float = 0.0
    optimizer: str = "adamw"
    muon_lr: float = 2e-3
    clip: float = 0.0
    per_epoch: int = 0
    places: int = 1

    def __post_init__(self) -> None:
        """Hold the settings to the rules."""
        require(self, self.rules())

    def rules(self) -> dict[str, tuple[bool, str]]:
        """By setting: whether it can be worked with, and the rule in words."""
        return {
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
                self.accumulate == 0 or (self.accumulate > 0 and self.batch % self.accumulate == 0),
                f"a divisor of the batch of {self.batch}, or 0 to have it chosen",
            ),
            "seed": (0 <= self.seed < 2**64, "from 0 to 2^64 - 1"),
            "teacher_share": (0 <= self.teacher_share <= 1, "from 0 to 1"),
            "clip": (0 <= self.clip < float("inf"), "0 or more"),
            "per_epoch": (self.per_epoch >= 0, "0 or more"),
            "places": (self.places >= 1, "at least 1"),
        }

    def small(self, window: int) -> Self:
        """What moves most on one or two CPU cores, in place of the paper's values.

        Muon, few crops of two windows' width, a rate that is constant and then falls to 0, some smooth crops;
        docs/recipes.md has the trials.

        Args:
            window: side of the network's attention window, px.

        Raises:
            UsageError: the recipe has no such values.
        """
        return replace(self, **self.small_settings(window))

    def small_settings(self, window: int) -> dict[str, Any]:
        """The settings that `small` changes."""
        return {
            "warmup": self.iterations // 10_000,
            "milestones": (),
            "decay": 0.4,
            "optimizer": "muon",
            "lr": 1.5e-4,
            "muon_lr": 1.5e-3,
            "betas": (0.9, 0.99),
            "ema": 0.999,
            "batch": 3,
            "patch": max(64, 2 * window),
        }

    def released(self) -> Self:
        """The values of the released configuration, where it differs; docs/recipes.md lists them."""
        return replace(self, **self.released_settings())

    def released_settings(self) -> dict[str, Any]:
        """The settings that `released` changes."""
        return {"betas": (0.9, 0.9), "per_epoch": 1}

    def network(self, model: str, scale: int, blocks: int | None = None) -> Config:
        """The network to train.

        Args:
            model: a name that `families.preset` knows.
            scale: HR pixels per LR pixel along a side.
            blocks: fewer blocks than the model has.

        Raises:
            UsageError: there is no such network, or the recipe cannot train it.
        """
        config = preset_of(model, scale, blocks)
        if config.scale is None:
            raise UsageError(f"{model} needs training at all scales at once, by the recipe arbitrary")
        return config

    def teacher(self, name: str, scale: int, device: torch.device) -> Teacher:
        """Load a teacher that fits, by a bundled name or a file; errors as in `Teacher`."""
        return Teacher(name, scale, self.teacher_share, device)

    def objective(self, setup: Setup) -> nn.Module:
        """What is made small, as `losses` describes it; what it draws, the seed decides.

        Raises:
            UsageError: something that it needs is missing, or something given is not needed.
            WeightsError: given weights cannot be used.
        """
        setup.refuse_vgg(self.name)
        return Distance(self.loss)

    def make_pool(self, processes: int = 1) -> PairPool:
        """What each process remembers from batch to batch, and so is part of a checkpoint; here nothing."""
        return PairPool(0)

    def pictures(self, setup: Setup) -> Sequence[Any]:
        """What crops are taken of, one item for each HR picture; here the HR picture, a `Source`.

        Raises:
            UsageError: LR pictures are given, and the recipe makes its own; or there are too few of them.
            DataError: pictures are unreadable, too small, or have no LR that fits; names the first few.
        """
        setup.refuse_lr(self.name)
        return setup.hold(setup.measure(setup.scale * self.patch))

    @abstractmethod
    def cut(self, picture: Any, generator: np.random.Generator, scale: int) -> Batch:
        """Take a crop.

        Args:
            picture: one of `pictures`.
            generator: source of all randomness.
            scale: HR pixels per LR pixel along a side.

        Returns:
            What the network is given and, last, what it should give; or what `batches` makes that of.
        """

    def batches(self, crops: Iterator[Batch], setup: Setup, pool: PairPool, start: int) -> Iterator[Batch]:
        """What the network is given and, last, what it should give, (B, ...) each.

        Args:
            crops: batches of `cut`, stacked.
            setup: of the run.
            pool: of `make_pool`, as it was before the first of these steps.
            start: the step of the first batch.
        """
        return crops

    def held_out(self, pictures: Sequence[Decoded], scale: int) -> list[Pair]:
        """Pairs to validate on, of whole HR pictures."""
        return list(make_pairs(pictures, scale))

    def validate(self, network: nn.Module, pairs: Sequence[Pair], scale: int) -> Scores:
        """Score a network on pairs; the highest PSNR is the best."""
        return evaluate(network, pairs, scale, Protocol.of(network))

    def card(self) -> dict[str, Any]:
        """What the card of the weights tells beside what it tells of every run."""
        return {}


def preset_of(model: str, scale: int, blocks: int | None) -> Config:
    """The network of a name, or the first blocks of it."""
    config = families.preset(model, scale)
    if blocks is None:
        return config
    if config.depth is None:
        raise UsageError(f"--blocks {blocks}: {model} is trained with all of its blocks; leave it out")
    if not 1 <= blocks <= config.depth:
        raise UsageError(f"--blocks {blocks}: {model} has {config.depth}; give 1 to that many")
    return config.at_depth(blocks)
