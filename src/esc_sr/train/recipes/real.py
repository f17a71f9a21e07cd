"""Training on realistic LR, in two stages (Supp. 6.3)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from esc_sr.data.crops import Batch
from esc_sr.data.degrade import Degradation
from esc_sr.data.degraded import cut_hr, degrade_batches, degraded_pairs
from esc_sr.data.pairs import Pair
from esc_sr.data.pictures import Decoded, Source
from esc_sr.data.pool import PairPool
from esc_sr.errors import DataError, UsageError
from esc_sr.families.contract import Config
from esc_sr.train.losses import Adversarial, Distance
from esc_sr.train.perceptual import SMALLEST
from esc_sr.train.recipes.base import Recipe
from esc_sr.train.setup import Setup
from esc_sr.train.teacher import Teacher

SHARPENED: dict[str, Callable[[Tensor, Tensor], Tensor] | None] = {
    "crop": None,
    "context": lambda lr, sharpened: sharpened,
}
"""What `degrade_batches` is to give as the target."""

_FOUR_PROCESSES = {"draws": 4, "pool": 4 * 180}


@dataclass(frozen=True)
class RealMSE(Recipe):
    """The paper's first stage on realistic LR (Supp. 6.3): L1 loss, 400,000 steps of 48 crops of 64 x 64 px.

    The paper names these; the learning rate and its milestone come from the released configuration, which has
    1,000,000 iterations, and betas and warm-up from `Classic`. LR that is left clean has HR for its target,
    also where there is a teacher.

    Attributes:
        context: side of the LR pictures that crops are cut out of after degradation, px.
        pool: pairs of earlier batches kept to mix degradations, by all processes together.
        draws: parts of a batch, that of all processes together, each of which has resizing, kind of noise and
            order of its own.
        sharpen: what is sharpened to compare with: crop, what was cut out of the HR picture; or context, that
            before it is cut, so that the crop's edges are sharpened by what was beside them.
        redraw: steps from one degraded batch to the next; in between, pairs are of the pool.
        clean: probability that an LR picture is reduced by bicubic and nothing else.
        flat: probability that a crop is flat or smooth and drawn, not of a picture.
    """

    model: ClassVar[str] = "esc-real"
    scale: ClassVar[int] = 4

    name: str = "real-mse"
    iterations: int = 400_000
    milestones: tuple[int, ...] = (100_000,)
    gamma: float = 0.4
    batch: int = 48
    context: int = 100
    pool: int = 180
    draws: int = 1
    sharpen: str = "crop"
    redraw: int = 1
    clean: float = 0.0
    flat: float = 0.0

    def rules(self) -> dict[str, tuple[bool, str]]:
        """As of all, and those of degradation."""
        return super().rules() | {
            "context": (self.context >= self.patch, f"at least the patch of {self.patch}"),
            "pool": (self.pool >= 1, "at least 1"),
            "draws": (self.draws >= 1, "at least 1"),
            "sharpen": (self.sharpen in SHARPENED, f"one of {', '.join(SHARPENED)}"),
            "redraw": (self.redraw >= 1, "at least 1"),
            "clean": (0 <= self.clean <= 1, "from 0 to 1"),
            "flat": (0 <= self.flat <= 1, "from 0 to 1"),
        }

    def small_settings(self, window: int) -> dict[str, Any]:
        """As of all, with smooth and clean crops, and less to degrade."""
        settings = super().small_settings(window)
        context = max(80, settings["patch"])
        return settings | {"flat": 0.1, "context": context, "pool": 180, "redraw": 4, "clean": 0.25}

    def released_settings(self) -> dict[str, Any]:
        """As of all, more iterations, and what four processes make of degradation and pool."""
        own = {"iterations": 1_000_000, "warmup": 0, "sharpen": "context", **_FOUR_PROCESSES}
        return super().released_settings() | own

    def teacher(self, name: str, scale: int, device: torch.device) -> Teacher:
        """A network of a name, of the scale or a multiple of it."""
        return Teacher(name, scale, self.teacher_share, device, multiples=True)

    def objective(self, setup: Setup) -> nn.Module:
        """The distance to sharpened HR, or to what the teacher makes."""
        setup.refuse_vgg(self.name)
        return Distance(self.loss, sharpened=setup.teacher is None and self.sharpen == "crop")

    def make_pool(self, processes: int = 1) -> PairPool:
        """Pairs of earlier batches, so that one does not share a degradation."""
        return PairPool(-(-self.pool // processes))

    def pictures(self, setup: Setup) -> Sequence[Source]:
        """HR pictures in which a crop to degrade fits."""
        setup.refuse_lr(self.name)
        setup.refuse_cluster()
        sources = setup.measure(setup.scale * self.patch)
        _require_context(sources, self.context, setup.scale)
        return setup.hold(sources)

    def cut(self, picture: Source, generator: np.random.Generator, scale: int) -> Batch:
        """HR, as `cut_hr` has it."""
        return cut_hr(picture, generator, side=scale * self.context, places=self.places)

    def batches(self, crops: Iterator[Batch], setup: Setup, pool: PairPool, start: int) -> Iterator[Batch]:
        """LR, degraded, and HR or what the teacher makes of LR."""
        return degrade_batches(
            crops,
            Degradation(scale=setup.scale, clean=self.clean),
            patch=self.patch,
            pool=pool,
            device=setup.device,
            seed=self.seed,
            start=start,
            rank=setup.share[0],
            draws=-(-self.draws // setup.share[1]),
            redraw=self.redraw,
            flat=self.flat,
            teach=setup.teacher.answer if setup.teacher else SHARPENED[self.sharpen],
        )

    def held_out(self, pictures: Sequence[Decoded], scale: int) -> list[Pair]:
        """Degraded LR, the same every time, and HR as it is."""
        return list(degraded_pairs(pictures, Degradation(scale=scale)))

    def card(self) -> dict[str, Any]:
        """The shares of clean LR, by which `learnt_degraded` tells such a network, and of smooth crops."""
        return {"clean": self.clean, "flat": self.flat or None}


@dataclass(frozen=True)
class RealGAN(RealMSE):
    """The paper's second stage on realistic LR (Supp. 6.3): L1 + perceptual + 0.1 adversarial loss.

    Optimizer and schedule, for the discriminator too, come from the released configuration; Adam is AdamW
    without weight decay. Its milestone is the end of the run.

    Attributes:
        weights: what `loss`, perceptual and adversarial loss count.
    """

    name: str = "real-gan"
    warmup: int = 0
    milestones: tuple[int, ...] = (400_000,)
    gamma: float = 0.5
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weights: tuple[float, ...] = (1.0, 1.0, 0.1)

    def rules(self) -> dict[str, tuple[bool, str]]:
        """As of the first stage, and `weights`."""
        counted = len(self.weights) == 3 and all(0 <= weight < float("inf") for weight in self.weights)
        return super().rules() | {
            "weights": (counted, "three numbers from 0"),
            "sharpen": (self.sharpen == "crop", "crop, since the discriminator sees HR as it is"),
        }

    def released_settings(self) -> dict[str, Any]:
        """Epochs, and what four processes make of degradation and pool."""
        return {"per_epoch": 1, **_FOUR_PROCESSES}

    def small_settings(self, window: int) -> dict[str, Any]:
        """None."""
        raise UsageError(
            f"--small: {self.name} has no such values; use it with real-mse, classic or arbitrary"
        )

    def network(self, model: str, scale: int, blocks: int | None = None) -> Config:
        """The network of a name, whose crops the perceptual loss can compare."""
        if scale * self.patch < SMALLEST:
            raise UsageError(
                f"patch={self.patch}: {self.name} compares crops of at least {SMALLEST} px; at scale {scale} "
                f"the patch must be at least {-(-SMALLEST // scale)}"
            )
        return super().network(model, scale, blocks)

    def objective(self, setup: Setup) -> nn.Module:
        """Distance, perceptual and adversarial loss."""
        if not setup.started:
            raise UsageError(f"{self.name} goes on from weights of real-mse: give them with --from")
        if not setup.perceptual:
            raise UsageError(
                f"{self.name} compares features of VGG19: give torchvision's file of its weights, "
                "vgg19-dcbb9e9d.pth, with --vgg"
            )
        return Adversarial(
            setup.perceptual, weights=self.weights, loss=self.loss, sharpened=setup.teacher is None
        )

    def card(self) -> dict[str, Any]:
        """As of the first stage, and what the losses count."""
        return super().card() | {"loss_weights": list(self.weights)}


def learnt_degraded(card: Mapping[str, Any]) -> bool:
    """Whether a network was trained on degraded LR, by its card; early ones only name the recipe."""
    return card.get("clean") is not None or card.get("recipe") in (RealMSE.name, RealGAN.name)


def _require_context(sources: Sequence[Source], context: int, scale: int) -> None:
    """Refuse pictures that the crop to degrade does not fit into."""
    least = min(sources, key=lambda source: min(source.size))
    side = min(least.size)
    if side < scale * context:
        raise DataError(
            f"{least.name}: {least.size[1]} x {least.size[0]} px, at least {scale * context} px needed "
            f"on each side; use larger pictures or --set context={side // scale}"
        )
