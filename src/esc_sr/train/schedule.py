"""How far a run is, and what follows from that: the learning rate and the decay of the averaged weights."""

from bisect import bisect_right
from dataclasses import dataclass

from esc_sr.errors import UsageError
from esc_sr.train.recipes import Recipe

_SHORT_WARMUP = 0.02


@dataclass(frozen=True)
class Budget:
    """When a run ends: after a number of steps or of minutes; exactly one is set.

    Attributes:
        iterations: its length in steps.
        minutes: its length in time.
        first_iteration: steps that were taken before it began, in the run that it is a copy of.
        first_elapsed: seconds that these took.
    """

    iterations: int | None = None
    minutes: float | None = None
    first_iteration: int = 0
    first_elapsed: float = 0.0

    def __post_init__(self) -> None:
        """Refuse none, both, and nothing to do."""
        if (self.iterations is None) == (self.minutes is None):
            raise UsageError("give the length of a run in iterations or in minutes, not both")
        length = self.iterations if self.minutes is None else self.minutes
        if length is None or not 0 < length < float("inf"):
            raise UsageError(f"a run of length {length}: must be above 0")

    def progress(self, iteration: int, elapsed: float) -> float:
        """Share of the run that is done, 0..1, after `iteration` steps and `elapsed` seconds of training."""
        if self.iterations is not None:
            return min((iteration - self.first_iteration) / self.iterations, 1.0)
        assert self.minutes is not None
        return min((elapsed - self.first_elapsed) / (60 * self.minutes), 1.0)

    def remaining(self, iteration: int, elapsed: float) -> float:
        """Seconds left at the mean speed so far."""
        done = self.progress(iteration, elapsed)
        return (elapsed - self.first_elapsed) * (1 - done) / done if done else float("nan")


def learning_rate(recipe: Recipe, budget: Budget, progress: float) -> float:
    """Learning rate of the step that is taken when `progress` (0..1) of the run is done.

    Milestones stand at the same fractions of the run as in the recipe, and so do the end of the warm-up and
    the beginning of the decay; but a run shorter than the recipe spends at most 2 % on warming up.
    """
    warmup = recipe.warmup / recipe.iterations
    if budget.iterations is None or budget.iterations < recipe.iterations:
        warmup = min(warmup, _SHORT_WARMUP)
    rise = min(progress / warmup, 1.0) if warmup else 1.0
    passed = bisect_right(recipe.milestones, progress * recipe.iterations)
    fall = min((1 - progress) / recipe.decay, 1.0) if recipe.decay else 1.0
    return recipe.lr * rise * recipe.gamma**passed * fall


def ema_decay(recipe: Recipe, iteration: int) -> float:
    """Share of the averaged weights kept at a step; lower at first, so that short runs forget their start."""
    return min(recipe.ema, (1 + iteration) / (10 + iteration))
