"""ConvFFN and its gradients by the compiled kernels, in float32."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from esc_sr.native.library import (
    Strided,
    check_not_recording,
    check_types,
    filled,
    new_map,
    pitch,
    rounds,
    run,
    working,
)


class _FeedForward(ctypes.Structure):
    """`FeedForward` of levels.h."""

    PARAMETERS = (
        *("expand", "expand_turned", "expand_bias"),
        *("depthwise", "depthwise_bias"),
        *("project", "project_turned", "project_bias"),
    )
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("pictures", "in", "hidden", "out", "cut", "height", "width")),
        ("epsilon", ctypes.c_double),
        *((name, Strided) for name in ("x", "y", "rest", "grad_y", "grad_rest", "grad_x")),
        *((name, ctypes.c_void_p) for name in PARAMETERS),
    ]


def feed_forward(x: Tensor, layers: Sequence[Tensor], cut: int, epsilon: float = 0) -> tuple[Tensor, Tensor]:
    """Compute a ConvFFN (Sec. 3.3, Eq. 3): project(gelu(depthwise(h)) + h) with h = gelu(expand(x)).

    The gradients are computed from x alone; nothing else is kept.

    Args:
        x: (B, C, H, W), on the CPU.
        layers: Weight and bias of three convolutions: expand (hidden, C, 1, 1) and (hidden,), depthwise
            (hidden, 1, 3, 3) and (hidden,), project (out, hidden, 1, 1) and (out,). h is padded with zeros.
        cut: How many channels the first map of the result has.
        epsilon: If not 0, each pixel of x is first brought to mean 0 and variance 1, as by a layer norm with
            this epsilon; only where no gradients are recorded.

    Returns:
        (B, cut, H, W) and (B, out - cut, H, W), of the type of x and lying as x does.

    Raises:
        ValueError: Shapes, types or devices are others.
        DeviceError: There are no kernels, or there is too little memory.
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
    """
    expand, _, _, _, project, _ = layers
    c, hidden, out = x.shape[1], len(expand), len(project)
    shapes = [(hidden, c, 1, 1), (hidden,), (hidden, 1, 3, 3), (hidden,), (out, hidden, 1, 1), (out,)]
    given = [tuple(t.shape) for t in layers]
    if x.dim() != 4 or given != shapes or not 0 <= cut <= out:
        raise ValueError(f"{tuple(x.shape)}, {given}, cut at {cut}: pass (B, C, H, W), {shapes}, 0 to {out}")
    check_types(x, *layers)
    if epsilon:
        check_not_recording(x, *layers)
        return _feed_forward(x, layers, cut, epsilon)
    maps: tuple[Tensor, Tensor] = _FeedForwardFunction.apply(x, cut, *layers)
    return maps


class _FeedForwardFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cut: int, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, *parameters)
        ctx.cut = cut
        return _feed_forward(x, parameters, cut)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_rest: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        rounding = rounds(x)
        grad_x = new_map(*x.shape, rounding=rounding)
        grads = {"grad_y": working(grad, rounding), "grad_rest": working(grad_rest, rounding)}
        sums = _run_feed_forward("feed-forward gradients", x, ctx.cut, parameters, grads | {"grad_x": grad_x})
        hidden, c, out = len(parameters[0]), x.shape[1], len(parameters[4])
        width = pitch(hidden)
        parts = sums.split([hidden * pitch(c), width, 9 * width, width, out * width, pitch(out)])
        expand, expand_bias, depthwise, depthwise_bias, project, project_bias = parts
        gradients = (
            expand.view(hidden, -1)[:, :c],
            expand_bias[:hidden],
            depthwise.view(9, width)[:, :hidden].T,
            depthwise_bias[:hidden],
            project.view(out, width)[:, :hidden],
            project_bias[:out],
        )
        pairs = zip(gradients, parameters, strict=True)
        return grad_x.to(x.dtype), None, *(grad.reshape(t.shape).to(t.dtype) for grad, t in pairs)


def _feed_forward(
    x: Tensor, parameters: Sequence[Tensor], cut: int, epsilon: float = 0
) -> tuple[Tensor, Tensor]:
    b, _, h, w = x.shape
    widths = {"y": cut, "rest": len(parameters[4]) - cut}
    maps = {name: new_map(b, width, h, w, rounding=rounds(x)) for name, width in widths.items()}
    _run_feed_forward("feed-forward", x, cut, parameters, maps, epsilon)
    return maps["y"].to(x.dtype), maps["rest"].to(x.dtype)


def _run_feed_forward(
    kernel: str,
    x: Tensor,
    cut: int,
    parameters: Sequence[Tensor],
    maps: dict[str, Tensor],
    epsilon: float = 0,
) -> Tensor:
    expand, expand_bias, depthwise, depthwise_bias, project, project_bias = parameters
    expand, project = expand[:, :, 0, 0], project[:, :, 0, 0]
    given = [expand, expand.T, expand_bias, depthwise[:, 0].permute(1, 2, 0), depthwise_bias]
    given = [filled(t) for t in (*given, project, project.T, project_bias)]
    b, c, h, w = x.shape
    rounding = rounds(x)
    x = working(x, rounding)
    problem = _FeedForward(b, c, len(expand), len(project), cut, h, w, epsilon, x=Strided.of(x))
    for name, t in zip(_FeedForward.PARAMETERS, given, strict=True):
        setattr(problem, name, t.data_ptr())
    for name, t in maps.items():
        setattr(problem, name, Strided.of(t))
    return run(kernel, problem, rounding)
