"""A copy of a run whose learning rate falls to 0, which is how a run of constant rate is harvested."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from esc_sr.errors import UsageError
from esc_sr.train import checkpoint
from esc_sr.train.recipes import Recipe, override
from esc_sr.train.schedule import Budget, learning_rate


def annealed(
    recipe: Recipe, content: dict[str, Any], settings: Sequence[str], budget: Budget | None, resume: bool
) -> tuple[Recipe, Budget]:
    """Give recipe and budget of the copy.

    Args:
        recipe: the one that is asked for, with any settings.
        content: checkpoint of the run, whose settings become those of the copy; or, to resume, of the copy.
        settings: what else is to change, as of `recipes.override`.
        budget: length of the copy; to resume, None keeps it.
        resume: whether `content` is of the copy.

    Raises:
        UsageError: the run is of another recipe, or its rate is 0 already, or no length is given.
    """
    saved, before = checkpoint.recipe_of(content, recipe), Budget(**content["budget"])
    if resume:
        if budget is None:
            return saved, before
        return saved, replace(
            budget, first_iteration=before.first_iteration, first_elapsed=before.first_elapsed
        )
    if budget is None:
        raise UsageError("--anneal: say how long, with --minutes or --iterations")
    iteration, elapsed = content["iteration"], content["elapsed"]
    lr = learning_rate(saved, before, before.progress(iteration, elapsed))
    if lr <= 0:
        raise UsageError("--anneal: the learning rate of that run is 0 already; give one of constant rate")
    muon_lr = saved.muon_lr * lr / saved.lr
    falling = replace(saved, lr=lr, muon_lr=muon_lr, warmup=0, milestones=(), decay=1.0)
    changed = override(falling, settings)
    content |= {"recipe": asdict(changed), "scores": {}, "best": None}  # the best file is that run's
    if changed.patch != saved.patch or len(content["pool"]["lr"]) < changed.batch:
        content["pool"] = changed.make_pool().state_dict()  # its pairs are of another size, or too few
    return changed, replace(budget, first_iteration=iteration, first_elapsed=elapsed)
