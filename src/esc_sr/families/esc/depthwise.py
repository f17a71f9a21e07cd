"""Convolution of each channel with a kernel of its own (Eq. 4, line 3; Eq. 5)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from esc_sr import native

_LARGE = 9
"""Side from which on kernels go by `_LargeDepthwise`, on a CPU."""

_WHOLE = 16
"""What sides of Fourier transforms are multiples of, so that they have small factors."""


def depthwise(x: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each channel of each picture (B, C, H, W) with its own kernel of (B, C, k, k), k odd."""
    size = kernels.shape[-1]
    if torch.compiler.is_exporting():  # graphs have convolutions of a fixed number of groups only
        height, width = x.shape[2:]
        padded = F.pad(x, (size // 2,) * 4)
        y = torch.zeros_like(x)
        for i in range(size):
            for j in range(size):
                y = y + padded[:, :, i : i + height, j : j + width] * kernels[:, :, i : i + 1, j : j + 1]
        return y
    if size >= _LARGE and x.device.type == "cpu" and not native.looked_on():
        large: Tensor = _LargeDepthwise.apply(x, kernels)
        return large
    return _convolve(x, kernels)


def _convolve(x: Tensor, kernels: Tensor) -> Tensor:
    b, c, height, width = x.shape
    size = kernels.shape[-1]
    pictures, filters = x.reshape(1, b * c, height, width), kernels.reshape(b * c, 1, size, size)
    return F.conv2d(pictures, filters, padding=size // 2, groups=b * c).view(b, c, height, width)


class _LargeDepthwise(torch.autograd.Function):
    """`_convolve`, by a compiled kernel where there is one; that is one gradient, the other a correlation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernels)
        return _convolve_large(x, kernels)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, kernels = ctx.saved_tensors
        of_x, of_kernels = ctx.needs_input_grad
        grad_x = _convolve_large(grad, kernels.flip(2, 3).to(grad.dtype)).to(x.dtype) if of_x else None
        return grad_x, _correlate(x, grad, kernels.shape[-1]).to(kernels.dtype) if of_kernels else None


def _correlate(x: Tensor, grad: Tensor, size: int) -> Tensor:
    """The gradient (B, C, size, size) of kernels: the sum over r of x[r + d] grad[r], for all d at once."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    reach = size // 2
    sides = [-(-(side + 2 * reach) // _WHOLE) * _WHOLE for side in x.shape[2:]]
    spectrum = torch.fft.rfft2(F.pad(x.to(dtype), (reach,) * 4), sides)
    spectrum = spectrum * torch.fft.rfft2(grad.to(dtype), sides).conj()
    return torch.fft.irfft2(spectrum, sides)[:, :, :size, :size]


def _convolve_large(x: Tensor, kernels: Tensor) -> Tensor:
    if kernels.shape[-1] <= native.LARGEST and native.takes(x):
        return native.depthwise_conv(x, kernels)
    return _convolve(x, kernels)
