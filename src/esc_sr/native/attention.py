"""Window attention and its gradients by the compiled kernels (Sec. 3.3), in float32."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from esc_sr.errors import DeviceError
from esc_sr.native.library import available, level, load

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class _View(ctypes.Structure):
    """`View` of levels.h."""

    _fields_ = [("data", ctypes.c_void_p), *((f"stride{i}", ctypes.c_int64) for i in range(4))]


_SIZES = ("side", "windows", "heads", "width")
_TENSORS = ("q", "k", "v", "out", "grad_out", "grad_q", "grad_k", "grad_v")
_POINTERS = ("table", "grad_table", "lse")


class _Problem(ctypes.Structure):
    """`Attention` of levels.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, _View) for name in _TENSORS),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    ]


def can_attend(q: Tensor) -> bool:
    """Tell whether `attend` can do the work for queries like these, (windows, heads, n, d).

    Raises:
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
        DeviceError: `ESC_SR_NATIVE` names a level that is not there.
    """
    return q.device.type == "cpu" and q.dtype in DTYPES and not torch.compiler.is_compiling() and available()


def attend(q: Tensor, k: Tensor, v: Tensor, table: Tensor, window: int) -> Tensor:
    """Attend within each window: softmax(q k^T / sqrt(d) + bias) v, differentiable once.

    The work is spread over as many threads as torch uses; with the same number the result is the same to the
    last bit. Everything is read as it lies in memory; the output, and each gradient, lies as its input does.

    Args:
        q: Queries (windows, heads, n, d) on the CPU, n = window^2 pixels in row-major order; one of `DTYPES`.
        k: Keys, shaped as q.
        v: Values, shaped as q.
        table: Relative position biases (heads, (2 window - 1)^2) on the CPU, of any of `DTYPES`.
        window: Side of the window in pixels.

    Returns:
        (windows, heads, n, d), of the type of q.

    Raises:
        ValueError: Shapes, types or devices are others.
        DeviceError: There are no kernels, or there is too little memory.
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
    """
    _check(q, k, v, table, window)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v, table)):
        out: Tensor = _Attention.apply(q, k, v, table, window)
        return out
    return _forward(q, k, v, table, window, None).to(q.dtype)


class _Attention(torch.autograd.Function):
    """Keeps the output and one number per query; the weights are computed again."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, table: Tensor, window: int) -> Tensor:
        lse = torch.empty(q.shape[:3])
        out = _forward(q, k, v, table, window, lse)
        ctx.window = window
        ctx.save_for_backward(q, k, v, table, out, lse)
        return out.to(q.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors[:4]
        q, k, v, table, out, lse = (t.float() for t in ctx.saved_tensors)
        grad_q, grad_k, grad_v = (torch.empty_like(t) for t in (q, k, v))
        table, grad_table = table.contiguous(), torch.empty(table.shape)
        views = {"q": q, "k": k, "v": v, "out": out, "grad_out": grad.float()}
        views |= {"grad_q": grad_q, "grad_k": grad_k, "grad_v": grad_v}
        _call("backward", ctx.window, views, {"table": table, "grad_table": grad_table, "lse": lse})
        grads = (grad_q, grad_k, grad_v, grad_table)
        return *(grad.to(t.dtype) for grad, t in zip(grads, inputs, strict=True)), None


def _forward(q: Tensor, k: Tensor, v: Tensor, table: Tensor, window: int, lse: Tensor | None) -> Tensor:
    q, k, v, table = (t.float() for t in (q, k, v, table))
    out = torch.empty_like(q)
    pointers = {"table": table.contiguous()} | ({} if lse is None else {"lse": lse})
    _call("forward", window, {"q": q, "k": k, "v": v, "out": out}, pointers)
    return out


def _call(name: str, window: int, views: dict[str, Tensor], pointers: dict[str, Tensor]) -> None:
    library, why_not = load()
    chosen = level()
    if library is None or chosen is None:
        raise DeviceError(f"no compiled kernels: {why_not or 'ESC_SR_NATIVE=off'}")
    windows, heads, _, width = views["q"].shape
    problem = _Problem(window, windows, heads, width)
    for key, t in views.items():
        setattr(problem, key, _View(t.data_ptr(), *t.stride()))
    for key, t in pointers.items():
        setattr(problem, key, t.data_ptr())
    threads = torch.get_num_threads()
    function = getattr(library, f"esc_sr_attention_{name}")
    failure = function(chosen.encode(), threads, ctypes.byref(problem))
    if failure:
        raise DeviceError(f"no memory for attention on {threads} threads; use fewer")


def _check(q: Tensor, k: Tensor, v: Tensor, table: Tensor, window: int) -> None:
    """Refuse what the kernels, which trust their arguments, must not get."""
    shape = (*q.shape[:2], window**2, *q.shape[3:])
    if q.dim() != 4 or window < 1 or q.shape[3] < 1 or not q.shape == k.shape == v.shape == shape:
        raise ValueError(
            f"queries, keys, values {q.shape}, {k.shape}, {v.shape}: pass (windows, heads, {window}^2, d)"
        )
    if table.shape != (q.shape[1], (2 * window - 1) ** 2):
        raise ValueError(f"bias table {tuple(table.shape)}: pass (heads, (2 * {window} - 1)^2)")
    for t in (q, k, v, table):
        if t.device.type != "cpu" or t.dtype not in DTYPES:
            raise ValueError(f"{t.dtype} on {t.device}: pass float32, bfloat16 or float16 on the CPU")
