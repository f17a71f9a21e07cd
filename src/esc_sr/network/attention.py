"""Self-attention inside windows with relative position bias, on three backends (Sec. 3.3, Table 1).

naive   writes out every score; the reference, and what papers count FLOPs with
sdpa    torch's fused attention; on a CPU, gradients recompute the scores one window at a time
flex    torch's flex attention, compiled on first use; reads the bias table inside the kernel
auto    flex on CUDA where it compiles, otherwise sdpa
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BACKENDS = ("auto", "naive", "sdpa", "flex")


def position_bias(table: Tensor, window: int) -> Tensor:
    """Spread a table of relative position biases over all pairs of pixels of a window.

    Args:
        table: (heads, (2 window - 1)^2), one bias per offset of key minus query, rows first.
        window: Side of the window in pixels.

    Returns:
        (heads, n, n) with n = window^2: the bias between query (row) and key (column).
    """
    side = 2 * window - 1
    offsets = table.reshape(-1, side, side).unfold(1, window, 1).unfold(2, window, 1)  # (heads, w, w, w, w)
    return offsets.flip(1, 2).reshape(-1, window**2, window**2)  # (heads, n, n)


def attend(q: Tensor, k: Tensor, v: Tensor, table: Tensor, window: int, backend: str = "auto") -> Tensor:
    """Attend within each window: softmax(q k^T / sqrt(d) + bias) v.

    Args:
        q: Queries (windows, heads, n, d), n = window^2 pixels in row-major order.
        k: Keys, shaped as q.
        v: Values, shaped as q.
        table: Relative position biases (heads, (2 window - 1)^2).
        window: Side of the window in pixels.
        backend: One of `BACKENDS`.

    Returns:
        (windows, heads, n, d).

    Raises:
        ValueError: The backend is none of `BACKENDS`.
    """
    if backend == "auto":
        backend = best_backend(q.device)
    if backend == "naive":
        return _naive(q, k, v, position_bias(table, window).to(q.dtype))
    if backend == "sdpa":
        return _sdpa(q, k, v, position_bias(table, window).to(q.dtype))
    if backend == "flex":
        return _flex(q, k, v, table.to(q.dtype), window)
    raise ValueError(f"attention backend {backend!r} is none of {', '.join(BACKENDS)}")


@functools.cache
def best_backend(device: torch.device) -> str:
    """Name the fastest backend that works: flex on CUDA with a working compiler, otherwise sdpa."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return "sdpa"
    probe = torch.zeros(1, 1, 256, 16, device=device)
    try:
        _flex(probe, probe, probe, probe.new_zeros(1, 31**2), 16)
    except Exception:  # whatever a broken compiler raises, the other backend does the work
        return "sdpa"
    return "flex"


def _naive(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias  # (windows, heads, n, n)
    return scores.softmax(-1) @ v


def _sdpa(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    needs_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v, bias))
    if needs_gradient and q.device.type == "cpu" and not torch.compiler.is_compiling():
        out: Tensor = _RecomputedAttention.apply(q, k, v, bias)
        return out
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])


class _RecomputedAttention(torch.autograd.Function):
    """Attention one window and head at a time, whose backward computes the weights anew.

    torch's CPU kernel has no gradient for the bias and would fall back to writing out all scores.
    Everything (n, n) lives in two buffers that stay in the cache.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v, bias)
        working = torch.promote_types(q.dtype, torch.float32)
        q_, k_, v_, bias_ = (t.to(working) for t in (q, k, v, bias))
        out, scores, weights = torch.empty_like(q_), torch.empty_like(bias_[0]), torch.empty_like(bias_[0])
        for w in range(q.shape[0]):
            for h in range(q.shape[1]):
                _weights(q_[w, h], k_[w, h], bias_[h], scores, weights)
                torch.mm(weights, v_[w, h], out=out[w, h])
        return out.to(q.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        dtype = ctx.saved_tensors[0].dtype
        working = torch.promote_types(dtype, torch.float32)
        q, k, v, bias, grad = (t.to(working).contiguous() for t in (*ctx.saved_tensors, grad))
        scale = q.shape[-1] ** -0.5
        grad_q = torch.empty_like(q)
        grad_k, grad_v = (
            torch.empty_like(t.transpose(2, 3), memory_format=torch.contiguous_format) for t in (k, v)
        )
        grad_bias = torch.zeros_like(bias)
        scores, weights = torch.empty_like(bias[0]), torch.empty_like(bias[0])
        for w in range(q.shape[0]):
            for h in range(q.shape[1]):
                _weights(q[w, h], k[w, h], bias[h], scores, weights)
                torch.mm(grad[w, h].T, weights, out=grad_v[w, h])
                torch.mm(grad[w, h], v[w, h].T, out=scores).mul_(weights)
                scores.addcmul_(weights, scores.sum(-1, keepdim=True), value=-1)  # now the scores' gradient
                grad_bias[h] += scores
                torch.mm(scores, k[w, h], out=grad_q[w, h]).mul_(scale)
                torch.mm(q[w, h].T, scores, out=grad_k[w, h]).mul_(scale)
        grads = (grad_q, grad_k.transpose(2, 3), grad_v.transpose(2, 3), grad_bias)
        return tuple(g.to(dtype) for g in grads)


def _weights(q: Tensor, k: Tensor, bias: Tensor, scores: Tensor, weights: Tensor) -> None:
    """Write softmax(q k^T / sqrt(d) + bias) of one window and head, (n, n), into `weights`."""
    torch.addmm(bias, q, k.T, alpha=q.shape[-1] ** -0.5, out=scores)
    torch.softmax(scores, -1, out=weights)


@functools.cache
def _compiled_flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    compiled: Callable[..., Tensor] = torch.compile(flex_attention, dynamic=False, fullgraph=True)
    return compiled


def _flex(q: Tensor, k: Tensor, v: Tensor, table: Tensor, window: int) -> Tensor:
    side = 2 * window - 1

    def add_bias(score: Tensor, _batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        down = key // window - query // window + window - 1
        right = key % window - query % window + window - 1
        return score + table[head, down * side + right]

    for t in (q, k, v):  # one kernel for any number of windows, one each for other sizes
        torch._dynamo.maybe_mark_dynamic(t, 0)
    return _compiled_flex()(q, k, v, score_mod=add_bias)
