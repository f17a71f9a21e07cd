"""Training at all scales at once (Supp. 6.2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from esc_sr.bicubic import BICUBICS
from esc_sr.data.coordinates import cut_queries
from esc_sr.data.crops import Batch
from esc_sr.data.pictures import Source
from esc_sr.data.pool import PairPool
from esc_sr.errors import UsageError
from esc_sr.families.contract import Config
from esc_sr.families.lte import any_size
from esc_sr.train.recipes.base import Recipe, preset_of
from esc_sr.train.setup import Setup
from esc_sr.train.teacher import Teacher


@dataclass(frozen=True)
class Arbitrary(Recipe):
    """The paper's training of ESC+LTE (Supp. 6.2): 1000 epochs of LTE's recipe with 64 x 64 px crops.

    An epoch is 20 crops of each of DIV2K's 800 pictures, so 500 steps of 32; the scale of each is drawn from
    1 to 4, and colours are compared at 2304 points. Adam is AdamW without weight decay. No averaging.

    Attributes:
        scales: least and largest scale of a crop, drawn evenly between.
        queries: points per crop at which colours are compared.
        bicubic: whose makes LR of each crop, matlab or pillow.
        flat: probability that a crop is flat or smooth and drawn, not of a picture.
    """

    model: ClassVar[str] = "esc"
    scale: ClassVar[int] = 4

    name: str = "arbitrary"
    warmup: int = 0
    milestones: tuple[int, ...] = (250_000, 400_000, 450_000, 475_000)
    lr: float = 2e-4
    ema: float = 0.0
    batch: int = 32
    scales: tuple[float, ...] = (1.0, 4.0)
    queries: int = 2304
    bicubic: str = "matlab"
    flat: float = 0.0

    def rules(self) -> dict[str, tuple[bool, str]]:
        """As of all, and `scales`, `queries`, `bicubic` and `flat`."""
        pixels = self.patch**2
        rising = len(self.scales) == 2 and 1 <= self.scales[0] <= self.scales[1]
        return super().rules() | {
            "scales": (rising, "two numbers from 1, the larger one last"),
            "queries": (1 <= self.queries <= pixels, f"from 1 to the {pixels} pixels of a crop"),
            "bicubic": (self.bicubic in BICUBICS, f"one of {', '.join(BICUBICS)}"),
            "flat": (0 <= self.flat <= 1, "from 0 to 1"),
        }

    def small_settings(self, window: int) -> dict[str, Any]:
        """As of all, and a tenth of the crops smooth."""
        return super().small_settings(window) | {"flat": 0.1}

    def released_settings(self) -> dict[str, Any]:
        """Pillow's bicubic, and LTE's epochs."""
        return {"per_epoch": 20, "bicubic": "pillow"}

    def network(self, model: str, scale: int, blocks: int | None = None) -> Config:
        """ESC+LTE, with the encoder of a name."""
        return any_size(preset_of(model, 2, blocks))

    def teacher(self, name: str, scale: int, device: torch.device) -> Teacher:
        """An ESC+LTE of a name."""
        teacher = Teacher(name, None, self.teacher_share, device)
        if not teacher.any_scale:
            wanted = f"the recipe {self.name} learns from a network with LTE"
            raise UsageError(f"--teacher {name}: is {teacher.network}; {wanted}")
        return teacher

    def pictures(self, setup: Setup) -> Sequence[Source]:
        """HR pictures in which a crop of the largest scale fits."""
        setup.refuse_lr(self.name)
        setup.refuse_cluster()
        return setup.hold(setup.measure(round(self.patch * self.scales[1])))

    def cut(self, picture: Source, generator: np.random.Generator, scale: int) -> Batch:
        """LR of a scale of its own, points and cells in it, and their colours, as `cut_queries` has them."""
        scales = self.scales[0], self.scales[1]
        return cut_queries(
            picture,
            generator,
            patch=self.patch,
            scales=scales,
            queries=self.queries,
            reduce=BICUBICS[self.bicubic],
            flat=self.flat,
            places=self.places,
        )

    def batches(self, crops: Iterator[Batch], setup: Setup, pool: PairPool, start: int) -> Iterator[Batch]:
        """The crops, with a teacher's colours if there is one."""
        return setup.teacher.colours(crops) if setup.teacher else crops

    def card(self) -> dict[str, Any]:
        """The scales, and the share of smooth crops."""
        return {"scale": list(self.scales), "flat": self.flat or None}
