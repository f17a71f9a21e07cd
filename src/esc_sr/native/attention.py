"""Window attention and its gradients by the compiled kernels (Sec. 3.3), in float32."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from esc_sr.native.library import check_types, rounds, run

_SIZES = ("side", "pictures", "down", "across", "heads", "width")
_STRIDES = ("picture", "head", "width", "row", "column")
_TENSORS = ("q", "k", "v", "out", "grad_out", "grad_q", "grad_k", "grad_v")


class _View(ctypes.Structure):
    """`View` of levels.h."""

    _fields_ = [("data", ctypes.c_void_p), *((name, ctypes.c_int64) for name in _STRIDES)]


class _Problem(ctypes.Structure):
    """`Attention` of levels.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, _View) for name in _TENSORS),
        *((name, ctypes.c_void_p) for name in ("table", "lse")),
    ]


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
    maps = [t.mT.unflatten(3, (window, window)) for t in (q, k, v)]  # (windows, heads, d, window, window)
    return _differentiable(table, window, maps).flatten(3).mT


def attend_windows(qkv: Tensor, table: Tensor, window: int) -> Tensor:
    """Attend as `attend` does within the windows of a map, which are not cut out.

    Args:
        qkv: Queries, keys and values (B, 3 heads d, H, W), H and W whole windows; as there.
        table: As there.
        window: As there.

    Returns:
        (B, heads d, H, W), of the type of qkv.

    Raises:
        ValueError: Shapes, types or devices are others.
        DeviceError: There are no kernels, or there is too little memory.
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
    """
    if qkv.dim() != 4 or window < 1 or any(side % window for side in qkv.shape[2:]):
        raise ValueError(
            f"queries, keys, values {tuple(qkv.shape)}: pass (B, 3 heads d, H, W) of whole windows"
        )
    if qkv.shape[1] % (3 * len(table)) or not qkv.shape[1]:
        raise ValueError(f"{qkv.shape[1]} channels: pass queries, keys, values of {len(table)} heads")
    _check_table(table, len(table), window)
    check_types(qkv, table)
    return _differentiable(table, window, [qkv.unflatten(1, (3, len(table), -1))]).flatten(1, 2)


def _differentiable(table: Tensor, window: int, maps: list[Tensor]) -> Tensor:
    """Attend on (B, heads, d, H, W) of queries, keys and values, or on (B, 3, heads, d, H, W) of all."""
    if torch.is_grad_enabled() and any(t.requires_grad for t in (table, *maps)):
        out: Tensor = _Attention.apply(table, window, *maps)
        return out
    return _forward(table, window, maps, None).to(maps[0].dtype)


class _Attention(torch.autograd.Function):
    """Keeps the output and one number per query; the weights are computed again."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, window: int, *maps: Tensor) -> Tensor:
        b, heads, _, h, w = _parts(maps)[0].shape
        lse = torch.empty(b, heads, h, w, dtype=torch.float32, device="cpu")
        out = _forward(table, window, maps, lse)
        ctx.window = window
        ctx.save_for_backward(out, lse, table, *maps)
        return out.to(maps[0].dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        out, lse, table, *inputs = ctx.saved_tensors
        maps = _working(inputs, ctx.window)
        grads = [torch.empty_like(t) for t in maps]
        (grad,) = _working([grad], ctx.window)
        views = dict(zip(("q", "k", "v"), _parts(maps), strict=True)) | {"out": out, "grad_out": grad}
        views |= zip(("grad_q", "grad_k", "grad_v"), _parts(grads), strict=True)
        sums = _run("attention gradients", table.float(), ctx.window, views, lse)
        pairs = zip(grads, inputs, strict=True)
        return sums.view(table.shape).to(table.dtype), None, *(one.to(two.dtype) for one, two in pairs)


def _parts(maps: Sequence[Tensor]) -> Sequence[Tensor]:
    return maps if len(maps) == 3 else maps[0].unbind(1)


def _forward(table: Tensor, window: int, maps: Sequence[Tensor], lse: Tensor | None) -> Tensor:
    q, k, v = _parts(_working(maps, window))
    out = torch.empty_like(q)  # dense in the order of q's strides
    _run("attention", table.float(), window, {"q": q, "k": k, "v": v, "out": out}, lse)
    return out


def _rounds(x: Tensor, window: int) -> bool:
    """Whether kernels round: they compute with whole vectors of keys in a row of the window."""
    return window % 16 == 0 and rounds(x)


def _working(maps: Sequence[Tensor], window: int) -> list[Tensor]:
    """Maps (..., d, H, W) as kernels read them: float32, or where they round as they are, d side by side."""
    if not _rounds(maps[0], window):
        return [t.float() for t in maps]
    return [t if t.stride(-3) == 1 else t.movedim(-3, -1).contiguous().movedim(-1, -3) for t in maps]


def _run(kernel: str, table: Tensor, window: int, views: dict[str, Tensor], lse: Tensor | None) -> Tensor:
    b, heads, width, h, w = views["q"].shape
    table = table.contiguous()
    problem = _Problem(window, b, h // window, w // window, heads, width, table=table.data_ptr())
    for name, t in views.items():
        setattr(problem, name, _View(t.data_ptr(), *t.stride()))
    if lse is not None:
        problem.lse = lse.data_ptr()
    return run(kernel, problem, _rounds(views["q"], window))


def _check(q: Tensor, k: Tensor, v: Tensor, table: Tensor, window: int) -> None:
    """Refuse what the kernels, which trust their arguments, must not get."""
    shape = (*q.shape[:2], window**2, *q.shape[3:])
    if q.dim() != 4 or window < 1 or q.shape[3] < 1 or not q.shape == k.shape == v.shape == shape:
        raise ValueError(
            f"queries, keys, values {q.shape}, {k.shape}, {v.shape}: pass (windows, heads, {window}^2, d)"
        )
    _check_table(table, q.shape[1], window)
    check_types(q, k, v, table)


def _check_table(table: Tensor, heads: int, window: int) -> None:
    if table.shape != (heads, (2 * window - 1) ** 2):
        raise ValueError(f"bias table {tuple(table.shape)}: pass (heads, (2 * {window} - 1)^2)")
