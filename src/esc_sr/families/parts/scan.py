"""The selective scan of state space models (Mamba, Gu and Dao 2023), exact, without a step for each pixel."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from esc_sr import native
from esc_sr.families.shapes import numbers


def selective_scan(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> Tensor:
    """Take a sequence through h(t) = exp(a dt(t)) h(t-1) + dt(t) b(t) u(t), y(t) = c(t) h(t) + skip u(t).

    All is float32, under autocast too, or float64 if `skip` is. On CUDA it is mamba_ssm that computes
    float32, where it is installed.

    Args:
        u: The sequence (B, D, L).
        dt: Steps (B, D, L), positive.
        a: How the state decays (D, N), negative.
        b: What it takes of the sequence (B, N, L).
        c: What the result takes of it (B, N, L).
        skip: What the result takes of the sequence (D,).

    Returns:
        y (B, D, L), of the type of `skip`.
    """
    stored = skip.dtype
    if u.device.type == "meta":
        return torch.empty_like(u, dtype=stored)
    exact = torch.promote_types(stored, torch.float32)
    with torch.autocast(u.device.type, enabled=False):
        u, dt, a, b, c, skip = (t.to(exact) for t in (u, dt, a, b, c, skip))
        if u.device.type == "cuda" and exact == torch.float32 and (compiled := _compiled()):
            u, dt, b, c = (t.contiguous() for t in (u, dt, b[:, None], c[:, None]))
            return compiled(u, dt, a, b, c, skip).to(stored)
        if _learns(u, dt, a, b, c) and (torch.compiler.is_compiling() or not native.looked_on()):
            y: Tensor = checkpoint(_in_chunks, u, dt, a, b, c, use_reentrant=False)
        else:
            y = _in_chunks(u, dt, a, b, c)
        return torch.addcmul(y, skip[:, None], u).to(stored)


def _learns(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


class Scans(nn.Module):
    """The weights of scans of sequences that are read in some ways, initialised as Mamba's."""

    def __init__(self, ways: int, dim: int, state: int, rank: int) -> None:
        """Draw them.

        Args:
            ways: How many there are.
            dim: Channels of the sequences.
            state: Numbers of the state for each of them.
            rank: Numbers that the steps of all are made of.
        """
        super().__init__()
        self.split = rank, state, state
        bias = numbers(lambda: _first_steps(ways, dim), ways, dim)
        limit = dim**-0.5
        self.x_proj_weight = nn.Parameter(torch.empty(ways, sum(self.split), dim).uniform_(-limit, limit))
        limit = rank**-0.5
        self.dt_projs_weight = nn.Parameter(torch.empty(ways, dim, rank).uniform_(-limit, limit))
        self.dt_projs_bias = nn.Parameter(bias)
        decay = numbers(lambda: torch.arange(1, state + 1).log().repeat(ways * dim, 1), ways * dim, state)
        self.A_logs = nn.Parameter(decay)
        self.Ds = nn.Parameter(torch.ones(ways * dim))

    def scan(self, u: Tensor, way: int, prompt: Tensor | None = None) -> Tensor:
        """A sequence (B, dim, L), read in the way of a number, to another.

        Args:
            u: The sequence.
            way: The number, from 0.
            prompt: Added to what the result takes of the state (B, state, L).
        """
        dt, b, c = (self.x_proj_weight[way] @ u).split(self.split, 1)
        dt = self.dt_projs_weight[way] @ dt + self.dt_projs_bias[way][:, None]
        exact = torch.promote_types(self.A_logs.dtype, torch.float32)
        decay, skip = (weight.chunk(len(self.x_proj_weight))[way] for weight in (self.A_logs, self.Ds))
        c = c if prompt is None else c + prompt
        return selective_scan(u, F.softplus(dt), -decay.to(exact).exp(), b, c, skip)


def _first_steps(*shape: int) -> Tensor:
    """Of what softplus makes steps from 0.001 to 0.1, all magnitudes as likely."""
    steps = torch.empty(shape).uniform_(math.log(1e-3), math.log(1e-1)).exp().clamp(min=1e-4)
    return steps + (-torch.expm1(-steps)).log()


def scan_macs(length: int, dim: int, state: int) -> int:
    """What the authors of MambaIR count for a scan: 9 for each number of the state, 1 of the sequence."""
    return length * dim * (9 * state + 1)


def _compiled() -> Callable[..., Tensor] | None:
    """mamba_ssm's scan, if there is one: sequences as ours, b and c (B, groups, N, L)."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None
    found: Callable[..., Tensor] = selective_scan_fn
    return found


def _in_chunks(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The scan without skip, of chunks of the sequence side by side.

    Each begins with nothing and leaves a state; these are handed on from chunk to chunk; and with what it is
    then given, each begins again.
    """
    batch, dim, length = u.shape
    chunks = min(2 * math.isqrt(length), length)
    steps = -(-length // chunks)
    inputs, times, b, c = (_cut(t, chunks, steps) for t in (dt * u, dt, b, c))
    a = a.T[:, :, None]  # (N, D, 1)
    left = _run(u.new_zeros(a.shape[0], dim, batch * chunks), a, times, inputs, b)
    h = _handed_on(left, (a * times.sum(0)).exp(), chunks)
    found: list[Tensor] = []
    _run(h, a, times, inputs, b, lambda h, step: found.append((h * c[step][:, None]).sum(0)))
    y = torch.stack(found, -1).view(dim, batch, -1)
    return y.transpose(0, 1)[:, :, :length]


def _cut(x: Tensor, chunks: int, steps: int) -> Tensor:
    """A sequence (B, C, L) as (steps, C, B chunks), with zeros behind it, which leave a state as it is."""
    x = F.pad(x, (0, chunks * steps - x.shape[2])).unflatten(2, (chunks, steps))
    return x.permute(3, 1, 0, 2).flatten(2)


def _run(
    h: Tensor,
    a: Tensor,
    times: Tensor,
    inputs: Tensor,
    b: Tensor,
    seen: Callable[[Tensor, int], object] | None = None,
) -> Tensor:
    """Take the states (N, D, B chunks) of all chunks to their ends; `seen` is shown each step's."""
    apart = torch.is_grad_enabled() or native.looked_on()
    for step in range(len(times)):
        decay = (a * times[step]).exp_()
        if apart:
            h = torch.addcmul(h * decay, b[step][:, None], inputs[step])
        else:
            h.mul_(decay).addcmul_(b[step][:, None], inputs[step])
        if seen:
            seen(h, step)
    return h


def _handed_on(left: Tensor, decay: Tensor, chunks: int) -> Tensor:
    """What each chunk begins with, of what each leaves and of how a state decays in it (N, D, B chunks)."""
    left, decay = (t.unflatten(2, (-1, chunks)) for t in (left, decay))
    h = torch.zeros_like(left[..., 0])
    begins = []
    for chunk in range(chunks):
        begins.append(h)
        h = h * decay[..., chunk] + left[..., chunk]
    return torch.stack(begins, -1).flatten(2)
