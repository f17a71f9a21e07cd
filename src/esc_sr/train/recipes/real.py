"""Training on realistic LR, in two stages (Supp. 6.3)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from esc_sr.data.crops import Batch
from esc_sr.data.degrade import Degradation, Order
from esc_sr.data.degraded import cut_hr, degrade_batches, degraded_pairs
from esc_sr.data.kernels import Blur
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

MILD = Degradation(
    first=Order(
        blur=Blur(sigma=(0.2, 1.5)),
        blur_prob=0.7,
        resize=(0.1, 0.5, 0.4),
        resize_range=(0.4, 1.2),
        gaussian_sigma=(0.0, 10.0),
        poisson_scale=(0.02, 0.8),
        jpeg_quality=(60.0, 98.0),
    ),
    second=Order(
        blur=Blur(sigma=(0.2, 0.8)),
        blur_prob=0.4,
        resize=(0.2, 0.4, 0.4),
        resize_range=(0.5, 1.2),
        gaussian_sigma=(0.0, 8.0),
        poisson_scale=(0.02, 0.6),
        jpeg_quality=(50.0, 98.0),
    ),
    final_sinc=0.4,
)
"""A degradation like that of most pictures people have, weaker than the published one."""

_NOTHING = Order(blur_prob=0, resize=(0, 0, 1), gaussian=1, gaussian_sigma=(0, 0), jpeg_quality=None)
NATIVE = Degradation(
    scale=1,
    sharpen=False,
    first=_NOTHING,
    second=replace(_NOTHING, gaussian_sigma=(0.0, 15.0), jpeg_quality=(30.0, 98.0)),
    final_sinc=0,
    clean=0.5,
)
"""Pictures as they are, half of them with noise and JPEG."""

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
        mild: probability that a part of a batch is degraded by `MILD` instead.
        native: probability that its LR is crops of the pictures as they are (`NATIVE`); only a teacher knows
            what these should become.
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
    mild: float = 0.0
    native: float = 0.0
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
            "mild": (0 <= self.mild <= 1, "from 0 to 1"),
            "native": (
                0 <= self.native and round(self.native + self.mild, 9) <= 1,
                "from 0 to 1, with mild together",
            ),
            "teacher_share": (
                0 <= self.teacher_share <= 1 and (not self.native or self.teacher_share == 1),
                "from 0 to 1, and 1 where there is native LR, which has no HR",
            ),
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
        self._require_teacher(setup)
        return Distance(self.loss, sharpened=setup.teacher is None and self.sharpen == "crop")

    def _require_teacher(self, setup: Setup) -> None:
        """Refuse crops as they are where nobody knows what they should become."""
        if self.native and setup.teacher is None:
            raise UsageError(
                f"native={self.native:g}: only a teacher knows what such LR should become (--teacher)"
            )

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
            others=self._others(setup.scale),
            teach=setup.teacher.answer if setup.teacher else SHARPENED[self.sharpen],
        )

    def _others(self, scale: int) -> list[tuple[float, Degradation]]:
        """What LR is made by beside the published degradation, with probabilities."""
        mild = replace(MILD, scale=scale, clean=self.clean)
        return [(share, kind) for share, kind in ((self.native, NATIVE), (self.mild, mild)) if share]

    def held_out(self, pictures: Sequence[Decoded], scale: int) -> list[Pair]:
        """Degraded LR, the same every time, and HR as it is."""
        return list(degraded_pairs(pictures, Degradation(scale=scale)))

    def card(self) -> dict[str, Any]:
        """The shares of clean LR, by which `learnt_degraded` tells such a network, and of smooth crops."""
        return {
            "clean": self.clean,
            "mild": self.mild or None,
            "native": self.native or None,
            "flat": self.flat or None,
        }


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
        self._require_teacher(setup)
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
