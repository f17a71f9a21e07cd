"""Convolutions and their gradients by the compiled kernels, in float32."""

import ctypes
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


def depthwise_conv(x: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each channel of each picture with a kernel of its own, only where no gradients are recorded.

    Args:
        x: (B, C, H, W), on the CPU.
        kernels: (B, C, k, k), k odd and at most `LARGEST`.

    Returns:
        (B, C, H, W), of the type of x: conv2d of each zero-padded plane; the products are float32's.

    Raises:
        ValueError: Shapes, types or devices are others, or gradients are recorded.
        DeviceError: There are no kernels, or there is too little memory.
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
    """
    side = kernels.shape[-1]
    if x.dim() != 4 or side % 2 == 0 or side > LARGEST or kernels.shape != (*x.shape[:2], side, side):
        raise ValueError(
            f"{tuple(x.shape)}, {tuple(kernels.shape)}: "
            f"pass (B, C, H, W) and (B, C, k, k) with odd k up to {LARGEST}"
        )
    check_types(x, kernels)
    check_not_recording(x, kernels)
    dtype, rounding = x.dtype, rounds(x)
    own, x = kernels.float().contiguous(), working(x, rounding)
    y = new_map(*x.shape, rounding=rounding)
    problem = _LargeConv(*x.shape, side // 2, x=Strided.of(x), y=Strided.of(y), dynamic=own.data_ptr())
    run("depthwise convolution", problem, rounding)
    return y.to(dtype)


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
    turn = torch.tensor(
        ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)), dtype=torch.float32, device="cpu"
    )
    given["weight"] = (turn @ weight.float() @ turn.T).permute(2, 3, 1, 0)  # (4, 4, in, out)
    kept = {name: filled(t) for name, t in given.items()}
    x, y = x.float(), new_map(b, out, h, w)
    problem = _Winograd(b, c, out, h, w, epsilon, x=Strided.of(x), y=Strided.of(y))
    for name, t in kept.items():
        setattr(problem, name, t.data_ptr())
    run("3x3 convolution", problem)
    return y.to(dtype)
