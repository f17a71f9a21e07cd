"""Self-attention inside windows with relative position bias, on four backends (Sec. 3.3, Table 1).

naive   writes out every score; the reference, and what papers count FLOPs with
sdpa    torch's fused attention; on a CPU, gradients recompute the scores chunk by chunk
flex    torch's flex attention, compiled on first use; reads the bias table inside the kernel
native  compiled kernels of `esc_sr.native`, for CPUs; read the bias table inside the kernel
auto    flex on CUDA where it compiles, native on a CPU where it is there, otherwise sdpa; where the compiler
        fails, forward or backward, a warning says so once
"""

import functools
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr import native

BACKENDS = ("auto", "naive", "sdpa", "flex", "native")


class Compared(NamedTuple):
    """What a self-attention compares with what: its weights are softmax(q k^T + bias).

    Attributes:
        q: Queries (windows, heads, n, d), divided by sqrt(d) or as the layer does.
        k: Keys (windows, heads, m, d).
        bias: What is added, (heads, n, m).
        places: Row and column of each query, and of each key, in the window, px: (n, 2), (m, 2).
        apart: What is added too, where windows differ: of each kind of window, (kinds, n, m); and of which
            kind each window is.
    """

    q: Tensor
    k: Tensor
    bias: Tensor
    places: tuple[Tensor, Tensor]
    apart: tuple[Tensor, Tensor] | None = None


class SelfAttention(nn.Module):
    """A layer that computes attention in a way that may be chosen.

    Attributes:
        backend: One of `BACKENDS`; may be changed at any time.
    """

    backend: str = "auto"

    def compared(self, x: Tensor, *others: Any) -> Compared:
        """What is compared for the inputs of `forward`; layers may tell it those who look into them.

        Raises:
            NotImplementedError: This one does not tell.
        """
        raise NotImplementedError


def position_bias(table: Tensor, window: int) -> Tensor:
    """Spread a table of relative position biases over all pairs of pixels of a window.

    Args:
        table: (heads, (2 window - 1)^2), one bias per offset of key minus query, rows first.
        window: Side of the window in pixels.

    Returns:
        (heads, n, n) with n = window^2: the bias between query (row) and key (column).
    """
    return _reversed_bias(table, window).flip(1)


def window_places(window: int, device: torch.device) -> Tensor:
    """Row and column of each pixel of a window, (window^2, 2)."""
    return torch.cartesian_prod(*[torch.arange(window, device=device)] * 2)


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
        ValueError: The backend is none of `BACKENDS`, or native and not for such tensors.
        DeviceError: The backend is native, and there are no kernels.
    """
    if backend == "auto" and q.device.type == "cpu":
        backend = "native" if native.takes(q) else "sdpa"
    elif backend == "auto":
        learns = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v, table))
        shape = min(len(q), 2), q.shape[1], window, q.shape[3]
        backend = "flex" if _flex_works(q.device, q.dtype, shape, learns) else "sdpa"
    if backend == "naive":
        return attend_naive(q, k, v, position_bias(table, window).to(q.dtype))
    if backend == "sdpa":
        return _sdpa(q, k, v, table, window)
    if backend == "flex":
        return _flex(q, k, v, table.to(q.dtype), window)
    if backend == "native":
        return native.attend(q, k, v, table, window)
    raise ValueError(f"attention backend {backend!r} is none of {', '.join(BACKENDS)}")


def attend_windows(qkv: Tensor, table: Tensor, window: int, backend: str = "auto") -> Tensor:
    """Attend within each window of a map.

    Args:
        qkv: Queries, keys and values (B, 3 heads d, H, W), H and W whole windows.
        table: Relative position biases (heads, (2 window - 1)^2).
        window: Side of the window in pixels.
        backend: As in `attend`.

    Returns:
        (B, heads d, H, W).

    Raises:
        ValueError: As `attend`.
        DeviceError: As `attend`.
    """
    if backend in ("auto", "native") and native.takes(qkv):
        return native.attend_windows(qkv, table, window)
    q, k, v = cut_windows(qkv, len(table), window)
    return join_windows(attend(q, k, v, table, window, backend), qkv, window)


def cut_windows(x: Tensor, heads: int, window: int, parts: int = 3) -> Tensor:
    """Cut (B, parts heads d, H, W), whole windows, into parts such as queries, keys and values.

    Returns:
        (parts, windows, heads, n, d), n = window^2 pixels in row-major order; windows row by row.
    """
    b, _, height, width = x.shape
    down, across = height // window, width // window  # windows below and beside each other
    # from (B, parts, heads, d, down, window, across, window) to
    # (parts, B, down, across, heads, window, window, d):
    # which part, which window, which head, which pixel in it, its d numbers
    x = x.view(b, parts, heads, -1, down, window, across, window).permute(1, 0, 4, 6, 2, 5, 7, 3)
    return x.reshape(parts, b * down * across, heads, window**2, -1)


def join_windows(y: Tensor, like: Tensor, window: int) -> Tensor:
    """Put windows (windows, heads, n, d) together to a map (B, heads d, H, W), as high and wide as `like`."""
    b, _, height, width = like.shape
    y = y.view(b, height // window, width // window, y.shape[1], window, window, -1)
    return y.permute(0, 3, 6, 1, 4, 2, 5).reshape(b, -1, height, width)


def best_backend(device: torch.device) -> str:
    """Name the fastest backend that works: flex on CUDA with a compiler, native on a CPU, otherwise sdpa."""
    if device.type == "cpu":
        return "native" if native.available() else "sdpa"
    return "flex" if _flex_works(device, torch.float32, (2, 1, 16, 16), False) else "sdpa"


def _flex_works(
    device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int, int], learns: bool
) -> bool:
    """Whether flex compiles for windows, heads, side of the window and channels of a head."""
    return (
        device.type == "cuda"
        and importlib.util.find_spec("triton") is not None
        and _compiles(device, dtype, shape, learns)
    )


# as torch.compiler.assume_constant_result, without the second that it takes to import torch's compiler
_flex_works._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _compiles(
    device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int, int], learns: bool
) -> bool:
    windows, heads, window, dim = shape
    shapes = *[(windows, heads, window**2, dim)] * 3, (heads, (2 * window - 1) ** 2)
    tensors = [torch.zeros(each, device=device, dtype=dtype, requires_grad=learns) for each in shapes]
    q, k, v, table = tensors
    try:
        out = _flex(q, k, v, table, window)
        if learns:
            torch.autograd.grad(out.sum(), tensors)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a broken compiler raises, the other backend does the work
        _tell(device)
        return False
    return True


@functools.cache
def _tell(device: torch.device) -> None:
    """Say that there is no flex attention; once."""
    warnings.warn(
        f"flex attention cannot be compiled for {device}, so sdpa does the work, more slowly; "
        "`esc-sr benchmark attention --backend flex` shows why",
        stacklevel=2,
    )


def fuses(q: Tensor) -> bool:
    """Tell whether torch's fused attention will do; elsewhere scores are to be written out.

    That of a CPU is not counted by torch, and neither `torch.func` nor forward mode differentiates it.
    """
    return q.device.type != "cpu" or not native.transformed()


def attend_naive(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attend and write out the scores: softmax(q k^T / sqrt(d) + bias) v.

    Args:
        q: Queries (windows, heads, n, d).
        k: Keys (windows, heads, m, d).
        v: Values, shaped as k.
        bias: (heads, n, m), of the type of q, or nothing.

    Returns:
        (windows, heads, n, d).
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (windows, heads, n, m)
    return (scores if bias is None else scores + bias).softmax(-1) @ v


def _sdpa(q: Tensor, k: Tensor, v: Tensor, table: Tensor, window: int) -> Tensor:
    if not fuses(q):
        return attend_naive(q, k, v, position_bias(table, window).to(q.dtype))
    needs_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v, table))
    if needs_gradient and q.device.type == "cpu" and not native.looked_on():
        return _ChunkedAttention.apply(q, k, v, table, window)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=position_bias(table, window).to(q.dtype)[None])


class _ChunkedAttention(torch.autograd.Function):
    """Attention on a CPU with a gradient for the table; the backward computes the scores again.

    torch's fused CPU kernel has no gradient for the bias and would fall back to writing out all scores. Here
    it computes the forward. The backward takes one head of all windows at a time, and of that a chunk of
    queries whose scores stay in the cache; scores of bfloat16 stay so where the CPU multiplies it, and are
    float32 elsewhere. Queries are in reverse order, as `_reversed_bias` has them.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, table: Tensor, window: int) -> Tensor:
        q, k, v = q.flip(2).contiguous(), k.contiguous(), v.contiguous()  # the kernel takes no other layout
        bias = _reversed_bias(table, window).to(q.dtype)[None]
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=bias)
        ctx.save_for_backward(q, k, v, table, out, lse)
        ctx.window = window
        return out.flip(2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dtype, table = ctx.saved_tensors[0].dtype, ctx.saved_tensors[3]
        exact = torch.promote_types(dtype, torch.float32)
        working = dtype if dtype == torch.bfloat16 and native.multiplies("bf16") else exact
        q, k, v, _, out, lse = (t.contiguous() for t in ctx.saved_tensors)
        grad = grad.flip(2)
        d = (grad.to(exact) * out).sum(-1, keepdim=True)
        scale = q.shape[-1] ** -0.5
        q, k, v, grad = ((q.to(exact) * scale).to(working), k.to(working), v.to(working), grad.to(working))
        bias = _reversed_bias(table.to(working), ctx.window)
        # with lse and grad . out as more dimensions, one product each gives log weights and grad v^T - D
        q_lse, k_one = _extended(q, k, -lse[..., None].to(exact))
        grad_d, v_one = _extended(grad, v, -d)
        q_t, grad_t = q.transpose(2, 3).contiguous(), grad.transpose(2, 3).contiguous()
        grad_q, grad_k, grad_v = (torch.empty_like(t, dtype=exact) for t in (q, q_t, q_t))
        grad_bias = torch.empty_like(bias, dtype=exact)
        windows, heads, n, _ = q.shape
        size = _chunk(windows, n)
        weights, scores = q.new_empty(2, windows, size, n)
        for h in range(heads):
            keys = k[:, h].contiguous()
            grad_keys, grad_values = torch.zeros_like(q_t[:, h]), torch.zeros_like(q_t[:, h])
            for first in range(0, n, size):
                part = slice(first, first + size)
                torch.bmm(q_lse[:, h, part], k_one[:, h], out=weights).add_(bias[h, part]).exp_()
                torch.bmm(grad_d[:, h, part], v_one[:, h], out=scores).mul_(weights)  # now their gradient
                torch.sum(scores, 0, dtype=exact, out=grad_bias[h, part])
                grad_q[:, h, part] = torch.bmm(scores, keys)
                grad_keys += torch.bmm(q_t[:, h, :, part], scores)
                grad_values += torch.bmm(grad_t[:, h, :, part], weights)
            grad_k[:, h], grad_v[:, h] = grad_keys, grad_values
        grads = (grad_q.mul_(scale).flip(2), grad_k.transpose(2, 3), grad_v.transpose(2, 3))
        grad_table = _table_gradient(grad_bias, ctx.window).to(table.dtype)
        return *(g.to(dtype) for g in grads), grad_table, None


def _extended(left: Tensor, right: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
    """What a product left right^T has to be taken of for `added` (..., n, 1) to be added to its rows."""
    high = added.to(left.dtype)
    low = (added - high).to(left.dtype)  # what is rounded away of it
    one = torch.ones_like(high)
    return torch.cat((left, high, low), -1), torch.cat((right, one, one), -1).transpose(2, 3).contiguous()


def _chunk(windows: int, n: int) -> int:
    """Queries worked through at a time, which divide the n of a window: some 64, fewer of many windows."""
    size = min(max(2**20 // max(windows * n, 1), 8), 64, n)
    return next(size for size in range(size, 0, -1) if n % size == 0)


def _reversed_bias(table: Tensor, window: int) -> Tensor:
    """`position_bias` with the queries in reverse order, which needs no large flip: (heads, n, n)."""
    side = 2 * window - 1
    offsets = table.reshape(-1, side, side).unfold(1, window, 1).unfold(2, window, 1)  # (heads, w, w, w, w)
    return offsets.reshape(-1, window**2, window**2)


def _table_gradient(grad: Tensor, window: int) -> Tensor:
    """The gradient of `_reversed_bias`: (heads, n, n) to (heads, (2 window - 1)^2)."""
    heads, side = grad.shape[0], 2 * window - 1
    grad = grad.view(heads, window, window, window, window)
    rows = grad.new_zeros(heads, window, side, window)
    for top in range(window):
        rows[:, :, top : top + window] += grad[:, top]
    table = grad.new_zeros(heads, side, side)
    for left in range(window):
        table[:, :, left : left + window] += rows[:, left]
    return table.view(heads, -1)


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
