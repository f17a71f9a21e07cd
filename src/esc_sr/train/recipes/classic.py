"""Training on bicubic LR, made or given (Supp. 6.1)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from esc_sr.bicubic import BICUBICS
from esc_sr.data.crops import Batch
from esc_sr.data.pairs import cut_pair
from esc_sr.data.pictures import Source, find_pictures
from esc_sr.data.sources import Held, Reduced, ReducedByCrop, hold, measure_pairs
from esc_sr.errors import UsageError
from esc_sr.train.recipes.base import Recipe
from esc_sr.train.setup import Setup

SourcePair = tuple[Source, Source]


@dataclass(frozen=True)
class Classic(Recipe):
    """The paper's training on bicubic LR (Supp. 6.1): L1 loss, AdamW, 64 crops of 64 x 64 px.

    The paper names the loss, the optimizer, its betas, the learning rate, the number of iterations and the
    crops; warm-up, milestones, EMA and weight decay come from the released configuration. The two disagree on
    betas: the paper's (0.9, 0.999) stands here, the released configuration has (0.9, 0.9).

    Attributes:
        flat: probability that a crop is flat or smooth and drawn, not of a picture.
        bicubic: whose makes LR that is not given: matlab, of the whole picture, as benchmarks have it; or
            pillow, of each crop.
    """

    name: str = "classic"
    flat: float = 0.0
    bicubic: str = "matlab"

    def rules(self) -> dict[str, tuple[bool, str]]:
        """As of all, and `flat` and `bicubic`."""
        return super().rules() | {
            "flat": (0 <= self.flat <= 1, "from 0 to 1"),
            "bicubic": (self.bicubic in BICUBICS, f"one of {', '.join(BICUBICS)}"),
        }

    def released_settings(self) -> dict[str, Any]:
        """As of all, and Pillow's bicubic, which made LR for DFLIP; that of DIV2K was given."""
        return super().released_settings() | {"bicubic": "pillow"}

    def small_settings(self, window: int) -> dict[str, Any]:
        """As of all, with mse, smooth crops, and of pictures the more detailed ones."""
        return super().small_settings(window) | {"loss": "mse", "flat": 0.1, "places": 4}

    def pictures(self, setup: Setup) -> list[SourcePair]:
        """Pairs of LR, made or given, and HR, or what a teacher makes of LR."""
        if not setup.teacher:
            setup.refuse_cluster()
        if self.bicubic == "pillow" and not setup.lr:
            return self._cropped_pairs(setup)
        pairs = self._stored_pairs(setup) if setup.lr else self._made_pairs(setup)
        if not setup.teacher:
            return pairs
        progress = setup.progress("the teacher's")
        how = progress, setup.share, setup.teacher_cluster
        return setup.teacher.targets(pairs, setup.scale, setup.teacher_cache, *how)

    def cut(self, picture: SourcePair, generator: np.random.Generator, scale: int) -> Batch:
        """LR and HR, as `cut_pair` has them."""
        return cut_pair(picture, generator, scale=scale, patch=self.patch, flat=self.flat, places=self.places)

    def card(self) -> dict[str, Any]:
        """The share of smooth crops."""
        return {"flat": self.flat or None}

    def _cropped_pairs(self, setup: Setup) -> list[SourcePair]:
        """Pairs (LR, HR) whose LR is made of each crop."""
        if setup.teacher:
            raise UsageError(
                "bicubic=pillow makes LR of each crop, and --teacher takes whole LR pictures: "
                "give --lr, or --set bicubic=matlab"
            )
        hr = setup.hold(setup.measure(setup.scale * self.patch))
        return [(ReducedByCrop(source, setup.scale), source) for source in hr]

    def _made_pairs(self, setup: Setup) -> list[SourcePair]:
        """Pairs (LR, HR) whose LR is made: once if both fit into memory, else for each crop."""
        hr, progress = setup.measure(setup.scale * self.patch), setup.progress("training")
        held = hold(hr, setup.cache * setup.scale**2 // (setup.scale**2 + 1), progress)
        fits = sum(isinstance(source, Held) for source in held)
        low = [Reduced(source, setup.scale) for source in held]
        return list(zip([*hold(low[:fits], setup.cache), *low[fits:]], held, strict=True))

    def _stored_pairs(self, setup: Setup) -> list[SourcePair]:
        """Pairs (LR, HR) of files."""
        lr, roots, progress = setup.lr, setup.roots, setup.progress("the sizes of training")
        if len(lr) != len(roots):
            raise UsageError(
                f"--lr given {len(lr)} times for {len(roots)} --data; give one for each, or none"
            )
        pairs = [
            pair
            for hr, low in zip(roots, lr, strict=True)
            for pair in measure_pairs(hr, find_pictures(low), setup.scale, self.patch, progress)
        ]
        sides = setup.hold([side for pair in pairs for side in pair])
        return list(zip(sides[::2], sides[1::2], strict=True))
