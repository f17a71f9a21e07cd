"""The convolutions of ESC's blocks and their gradients by the compiled kernels, in float32."""

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

LARGEST = 33
"""Side of the largest kernel that `large_conv` takes."""


class _LargeConv(ctypes.Structure):
    """`LargeConv` of levels.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("pictures", "channels", "height", "width", "reach")),
        *((name, Strided) for name in ("x", "y", "grad_y")),
        *((name, ctypes.c_void_p) for name in ("taps", "dynamic")),
    ]


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


class _Pointwise(ctypes.Structure):
    """`Pointwise` of levels.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("pictures", "in", "out", "height", "width", "adds")),
        ("epsilon", ctypes.c_double),
        *((name, Strided) for name in ("x", "y", "grad_y", "grad_x")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias")),
    ]


class _Winograd(ctypes.Structure):
    """`Winograd` of levels.h."""

    PARAMETERS = ("weight", "bias", "gain", "shift")
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("pictures", "in", "out", "height", "width")),
        ("epsilon", ctypes.c_double),
        *((name, Strided) for name in ("x", "y")),
        *((name, ctypes.c_void_p) for name in PARAMETERS),
    ]


def large_conv(x: Tensor, kernel: Tensor, dynamic: Tensor) -> Tensor:
    """Convolve with a large symmetric kernel and, each channel by itself, with a 3x3 kernel (Eq. 4, line 3).

    Differentiable once, like everything here. The gradient of the large kernel is symmetric, as it is.

    Args:
        x: (B, C, H, W), on the CPU.
        kernel: (C, C, k, k), k odd and at most `LARGEST`, the same under flips and rotations of the square.
        dynamic: (B, C, 3, 3).

    Returns:
        (B, C, H, W): zero-padded conv2d(x, kernel) + depthwise conv2d(x, dynamic), of the type of x.

    Raises:
        ValueError: Shapes, types or devices are others.
        DeviceError: There are no kernels, or there is too little memory.
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
    """
    (b, c), side = x.shape[:2], kernel.shape[-1]
    fits = kernel.shape == (c, c, side, side) and dynamic.shape == (b, c, 3, 3)
    if x.dim() != 4 or side % 2 == 0 or side > LARGEST or not fits:
        raise ValueError(
            f"{tuple(x.shape)}, {tuple(kernel.shape)}, {tuple(dynamic.shape)}: pass (B, C, H, W), "
            f"(C, C, k, k) with odd k up to {LARGEST}, and (B, C, 3, 3)"
        )
    check_types(x, kernel, dynamic)
    out: Tensor = _LargeConvFunction.apply(x, kernel, dynamic)
    return out


class _LargeConvFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, dynamic: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel, dynamic)
        return _large(x, kernel, dynamic.float())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = x, kernel, dynamic = ctx.saved_tensors
        b, c, h, w = x.shape
        reach, rounding = kernel.shape[-1] // 2, rounds(x)
        grad_x = _large(grad, kernel.float().transpose(0, 1), dynamic.float().flip(2, 3))
        x, grad = working(x, rounding), working(grad, rounding)
        problem = _LargeConv(b, c, h, w, reach, x=Strided.of(x), grad_y=Strided.of(grad))
        sums = run("large convolution's weights", problem, rounding)
        taps, grad_dynamic = sums.tensor_split([sums.numel() - 9 * b * c])
        taps = taps.view(c, -1, pitch(c))[:, :, :c].permute(2, 0, 1)  # (out, in, taps)
        down, right = torch.triu_indices(reach + 1, reach + 1)
        # each tap stands for 1, 4 or 8 places of the kernel, which share its gradient evenly
        places = (1 + (down > 0).int()) * (1 + (right > 0).int()) * (1 + (down < right).int())
        away = (torch.arange(2 * reach + 1) - reach).abs()
        near, far = torch.minimum(away[:, None], away), torch.maximum(away[:, None], away)
        number = near * (reach + 1) - near * (near - 1) // 2 + far - near  # of each place's tap
        grads = (grad_x, (taps / places)[:, :, number], grad_dynamic.view(dynamic.shape))
        return tuple(g.to(t.dtype) for g, t in zip(grads, inputs, strict=True))


def _large(x: Tensor, kernel: Tensor, dynamic: Tensor) -> Tensor:
    b, c, h, w = x.shape
    reach = kernel.shape[-1] // 2
    down, right = torch.triu_indices(reach + 1, reach + 1)
    taps = filled(kernel[:, :, reach + down, reach + right].permute(1, 2, 0))  # (in, taps, out)
    dynamic = dynamic.contiguous()
    dtype, rounding = x.dtype, rounds(x)
    x, y = working(x, rounding), new_map(b, c, h, w, rounding=rounding)
    problem = _LargeConv(b, c, h, w, reach, x=Strided.of(x), y=Strided.of(y))
    problem.taps, problem.dynamic = taps.data_ptr(), dynamic.data_ptr()
    run("large convolution", problem, rounding)
    return y.to(dtype)


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


def pointwise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    onto: Tensor | None = None,
    epsilon: float = 0,
) -> Tensor:
    """Convolve with a 1x1 kernel.

    Args:
        x: (B, C, H, W), on the CPU.
        weight: (out, C, 1, 1).
        bias: (out,), or None.
        onto: A map (B, out, H, W) that the result is added to, in place, as `takes_onto` says; only where no
            gradients are recorded.
        epsilon: As of `feed_forward`.

    Returns:
        (B, out, H, W), of the type of x; or `onto`.

    Raises:
        ValueError: Shapes, types or devices are others.
        DeviceError: There are no kernels, or there is too little memory.
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
    """
    out = len(weight)
    fits = weight.shape == (out, x.shape[1], 1, 1) and (bias is None or bias.shape == (out,))
    if onto is not None:
        fits &= onto.shape == (len(x), out, *x.shape[2:]) and takes_onto(x, onto)
    if x.dim() != 4 or not fits:
        raise ValueError(
            f"{tuple(x.shape)}, {tuple(weight.shape)}: pass (B, C, H, W), (out, C, 1, 1), (out,), and onto a "
            "map (B, out, H, W), float32, or bfloat16 with channels side by side where kernels round"
        )
    given = [t for t in (x, weight, bias, onto) if t is not None]
    check_types(*given)
    if onto is None and not epsilon:
        y: Tensor = _PointwiseFunction.apply(x, weight, bias)
        return y
    check_not_recording(*given)
    return _pointwise(x, weight, bias, onto, epsilon)


def takes_onto(x: Tensor, onto: Tensor) -> bool:
    """Tell whether `pointwise` can add its result for x onto a map: float32, or where it rounds bfloat16."""
    half = onto.dtype == torch.bfloat16 and onto.stride(1) == 1 and rounds(x)
    return onto.device == x.device and (onto.dtype == torch.float32 or half)


class _PointwiseFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        return _pointwise(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        b, c, h, w = x.shape
        out, rounding = len(weight), rounds(x)
        grad_x = new_map(*x.shape, rounding=rounding)
        inputs, grad = working(x, rounding), working(grad, rounding)
        straight = filled(weight[:, :, 0, 0])
        problem = _Pointwise(b, c, out, h, w, x=Strided.of(inputs), weight=straight.data_ptr())
        problem.grad_y, problem.grad_x = Strided.of(grad), Strided.of(grad_x)
        weights, biases = run("pointwise convolution's gradients", problem, rounding).tensor_split(
            [out * pitch(c)]
        )
        grad_weight = weights.view(out, -1)[:, :c].reshape(weight.shape).to(weight.dtype)
        grad_bias = None if bias is None else biases[:out].to(bias.dtype)
        return grad_x.to(x.dtype), grad_weight, grad_bias


def _pointwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, onto: Tensor | None = None, epsilon: float = 0
) -> Tensor:
    (b, c, h, w), out, dtype, rounding = x.shape, len(weight), x.dtype, rounds(x)
    x = working(x, rounding)
    y = new_map(b, out, h, w, rounding=rounding) if onto is None else onto
    turned, bias = filled(weight[:, :, 0, 0].T), None if bias is None else filled(bias)
    problem = _Pointwise(b, c, out, h, w, onto is not None, epsilon, x=Strided.of(x), y=Strided.of(y))
    problem.weight, problem.bias = turned.data_ptr(), None if bias is None else bias.data_ptr()
    run("pointwise convolution", problem, rounding)
    return y.to(dtype) if onto is None else onto


def conv3x3(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, norm: tuple[Tensor, Tensor, float] | None = None
) -> Tensor:
    """Convolve with a 3x3 kernel by Winograd's F(2x2, 3x3), only where no gradients are recorded.

    Args:
        x: (B, C, H, W), on the CPU; zeros are around it, or around what the layer norm makes of it.
        weight: (out, C, 3, 3).
        bias: (out,), or None.
        norm: Weight (C,), bias (C,) and epsilon of a layer norm over the channels that x goes through first.

    Returns:
        (B, out, H, W), of the type of x; the products are float32's.

    Raises:
        ValueError: Shapes, types or devices are others, or gradients are recorded.
        DeviceError: There are no kernels, or there is too little memory.
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
    """
    (b, c, h, w), out, dtype = x.shape, len(weight), x.dtype
    gain, shift, epsilon = norm or (None, None, 0)
    named = {"weight": weight, "bias": bias, "gain": gain, "shift": shift}
    given = {name: t for name, t in named.items() if t is not None}
    shapes = {"weight": (out, c, 3, 3), "bias": (out,), "gain": (c,), "shift": (c,)}
    if any(t.shape != shapes[name] for name, t in given.items()):
        raise ValueError(f"{[tuple(t.shape) for t in given.values()]}: pass {list(shapes.values())}")
    check_types(x, *given.values())
    check_not_recording(x, *given.values())
    turn = torch.tensor(((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)))
    given["weight"] = (turn @ weight.float() @ turn.T).permute(2, 3, 1, 0)  # (4, 4, in, out)
    kept = {name: filled(t) for name, t in given.items()}
    x, y = x.float(), new_map(b, out, h, w)
    problem = _Winograd(b, c, out, h, w, epsilon, x=Strided.of(x), y=Strided.of(y))
    for name, t in kept.items():
        setattr(problem, name, t.data_ptr())
    run("3x3 convolution", problem)
    return y.to(dtype)
