"""One step: a batch through the network, its gradient, and the weights moved by it (Supp. 6.1)."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from esc_sr.families.contract import Network
from esc_sr.machine.precision import autocast
from esc_sr.train.checkpoint import State
from esc_sr.train.recipes import Recipe
from esc_sr.train.schedule import ema_decay
from esc_sr.train.stop import Stop, Stopped
from esc_sr.train.team import ALONE, Team

Forward = Callable[..., Tensor]


class _Query(nn.Module):
    """A network for any size as one of pictures and points."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    def forward(self, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Colours (B, Q, 3), as `EncoderLTE.query`."""
        return self.model.query(lr, coord, cell)


def prepare(
    model: nn.Module, team: Team = ALONE, *, tf32: bool | None = None, compile: bool = False
) -> Forward:
    """What maps a batch to what it should give.

    Args:
        model: the network; its parameters are those that learn.
        team: the processes that train it together.
        tf32: whether CUDA may round factors of float32 products to 10 bits; None is as torch has it, in
            convolutions and not in products of matrices.
        compile: whether it is compiled.
    """
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32 is not False, tf32 is True
    forward = team.wrap(_Query(model) if isinstance(model, Network) and model.config.scale is None else model)
    return torch.compile(forward) if compile else forward


def step(
    state: State,
    forward: Forward,
    batch: tuple[Tensor, ...],
    recipe: Recipe,
    learning_rate: float,
    precision: str,
    team: Team = ALONE,
    stop: Stop | None = None,
) -> dict[str, float] | None:
    """Move network and objective by one batch; leave them alone if a loss or gradient is not finite.

    Args:
        state: changed in place, except for its counters.
        forward: what `prepare` made of the network.
        batch: this process's share, what the network is given and, last, what it should give, each (B, ...):
            LR and HR in 0..1, or what `EncoderLTE.query` takes and gives.
        recipe: gives `accumulate`, `clip` and the decay of the averaged weights.
        learning_rate: of this step.
        precision: of the network, one of `PRECISIONS`; the objective works in float32. For fp16 the state's
            scaler is enabled; where a gradient overflows, it takes a smaller scale.
        team: the processes that take the step together; all of them, or none.
        stop: breaks the step off before it moves anything: at once, or in a team after a part of the batch.

    Returns:
        The team's mean losses by name; None if the step was left out.

    Raises:
        Stopped: the step was broken off; `backup` puts back what it has changed.
    """
    weights: list[Tensor] = list(state.model.parameters())
    device = weights[0].device
    totals: dict[str, Tensor] = {}
    count = max(recipe.accumulate, 1)
    parts = zip(*(part.to(device).chunk(count) for part in batch), strict=True)
    stop = stop or Stop()
    with stop.at_once(team.size == 1):
        for number, (*given, wanted) in enumerate(parts, 1):
            if number > 1 and team.agree(stop.wished, 0.0)[0]:
                raise Stopped
            with _exchanging(forward, number == count):
                with autocast(device, precision):
                    found = forward(*given)
                losses = {name: loss / count for name, loss in state.objective(found.float(), wanted).items()}
                state.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
            totals = {name: totals.get(name, 0) + loss.detach() for name, loss in losses.items()}
    team.average(state.objective.parameters())

    learning = (*weights, *state.objective.parameters())
    norm = nn.utils.get_total_norm([weight.grad for weight in learning if weight.grad is not None])
    *values, length = team.mean(torch.stack([*totals.values(), norm])).tolist()
    finite = all(map(math.isfinite, values))
    if finite:
        state.scaler.unscale_(state.optimizer)
        finite = math.isfinite(length)
        if finite:
            _move(state, recipe, learning_rate)
        state.scaler.update()
    state.optimizer.zero_grad()
    return dict(zip(totals, values, strict=True)) if finite else None


def backup(state: State) -> Callable[[], None]:
    """What puts back all that a step, from the drawing of its batch on, changes before it moves weights."""
    pool = state.pool.state_dict()
    buffers = [*state.model.buffers(), *state.objective.buffers()]
    kept = [buffer.clone() for buffer in buffers]

    def undo() -> None:
        state.optimizer.zero_grad()
        state.pool.load_state_dict(pool)
        with torch.no_grad():
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)

    return undo


def _move(state: State, recipe: Recipe, learning_rate: float) -> None:
    """Change the weights by their gradients, and the averaged ones."""
    weights = tuple(state.model.parameters())
    if recipe.clip:
        nn.utils.clip_grad_norm_(weights, recipe.clip)
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate
    state.optimizer.step()
    share = 1 - ema_decay(recipe, state.iteration)
    with torch.no_grad():
        torch._foreach_lerp_(tuple(state.ema.parameters()), weights, share)
        for kept, found in zip(state.ema.buffers(), state.model.buffers(), strict=True):
            kept.copy_(found)  # such as statistics of normalisation, which are means already


def _exchanging(forward: Forward, wanted: bool) -> AbstractContextManager[None]:
    """Whether the backward of a block puts the team's gradients together; needed only once in a step."""
    alone = nullcontext if wanted else getattr(forward, "no_sync", nullcontext)
    return alone()
