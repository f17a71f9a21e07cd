"""What a step takes of a machine, found on one crop; hence the parts of a batch, and the time of a run."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from esc_sr.errors import UsageError
from esc_sr.machine.memory import SAFE_PART, free_memory, show_memory
from esc_sr.machine.precision import autocast
from esc_sr.train.checkpoint import Plan, State
from esc_sr.train.recipes import Recipe
from esc_sr.train.step import backup, prepare
from esc_sr.train.team import Team

PER_THREAD = 2**29
"""Bytes that a part of a batch may take for each thread of a CPU: more makes no step faster there, and a
signal is answered between two operations on a part."""

_BEYOND_SAVED = 1.6
"""What a step takes, relative to what is saved for its backward; measured on a CPU with kernels."""

_TOO_LONG = 7 * 24 * 3600
"""Seconds that nobody trains on a CPU: where a recipe asks for more, there is advice."""


@dataclass(frozen=True)
class Trial:
    """One crop through forward and backward.

    Attributes:
        memory: bytes that it takes beside weights and optimizer.
        seconds: how long it takes; on a GPU, where a first one is slow, it says nothing.
    """

    memory: int
    seconds: float


def try_out(state: State, batch: tuple[Tensor, ...], precision: str) -> Trial:
    """Take a crop of a batch through forward and backward, twice, and leave the run as it was.

    Args:
        state: of the run.
        batch: as of `step`; its first crop is taken.
        precision: as of `step`.
    """
    state.model.train()
    forward, undo = prepare(state.model), backup(state)
    weights = list(state.model.parameters())
    device = weights[0].device
    *given, wanted = (part[:1].to(device) for part in batch)
    known = {weight.untyped_storage().data_ptr() for weight in (*weights, *state.objective.parameters())}
    saved: dict[int, int] = {}

    def see(tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in known:
            saved[memory.data_ptr()] = memory.nbytes()
        return tensor

    def loss() -> Tensor:
        with autocast(device, precision):
            found = forward(*given)
        return torch.stack(list(state.objective(found.float(), wanted).values())).sum()

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
            loss().backward()
        started = time.perf_counter()
        loss().backward()
        seconds = time.perf_counter() - started
    undo()
    return Trial(int(_BEYOND_SAVED * sum(saved.values())), seconds)


def free_for_a_part(device: torch.device, team: Team) -> int:
    """Bytes of a device that one process may take for a part of a batch."""
    free = int(SAFE_PART * free_memory(device))
    return free // team.local_size if device.type == "cpu" else free


def parts_for(crops: int, crop: int, free: int, device: torch.device) -> int:
    """Parts in which a batch is worked through: the fewest that a device takes.

    Args:
        crops: of one process in a step.
        crop: bytes that one takes.
        free: as of `free_for_a_part`.
        device: where training is done.
    """
    room = min(free, PER_THREAD * torch.get_num_threads()) if device.type == "cpu" else free
    return next(
        parts for parts in range(1, crops + 1) if crops % parts == 0 and _fits(crops // parts, crop, room)
    )


def _fits(crops: int, crop: int, room: int) -> bool:
    """Whether so many crops have room; a single one always has."""
    return crops == 1 or crops * crop <= room


def chosen_parts(recipe: Recipe, crops: int, crop: int, free: int) -> str:
    """The line that says what was chosen; arguments as of `parts_for`."""
    part = crops // recipe.accumulate
    needs = f"{show_memory(part * crop)} of the {show_memory(free)} that it may take"
    if part * crop > free:
        return f"patch={recipe.patch}: even a single crop needs {needs}; a smaller --patch takes less"
    return (
        f"batch={recipe.batch} is worked through in {recipe.accumulate} parts, of {needs}; "
        "--set accumulate=N chooses otherwise"
    )


def expected_time(plan: Plan, state: State, seconds: float) -> str:
    """The line that says how long a step takes, and what becomes of the budget."""
    budget, text = plan.budget, f"a step takes about {_duration(seconds)}"
    left = 1 - budget.progress(state.iteration, state.elapsed)
    if budget.iterations is not None:
        steps = round(left * budget.iterations)
        return f"{text}, the {steps} steps of the run about {_duration(steps * seconds)}"
    assert budget.minutes is not None
    return f"{text}, so there are about {round(60 * left * budget.minutes / seconds)} in the time of the run"


def advice(recipe: Recipe, window: int, seconds: float) -> str | None:
    """The line for who trains on a CPU by values that take too long there, if the recipe has others.

    Args:
        recipe: of the run.
        window: side of the network's attention window, px.
        seconds: that a step takes.
    """
    try:
        fewer = recipe.small_settings(window).get("batch", recipe.batch) < recipe.batch
    except UsageError:
        return None
    if not fewer or recipe.iterations * seconds < _TOO_LONG:
        return None
    return f"the {recipe.iterations} steps of {recipe.name} are for GPUs; --small has values for CPU cores"


def _duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for length, unit in ((48 * 3600, "days"), (2 * 3600, "hours"), (120, "minutes")):
        if seconds >= length:
            return f"{seconds / {'days': 86400, 'hours': 3600, 'minutes': 60}[unit]:.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
