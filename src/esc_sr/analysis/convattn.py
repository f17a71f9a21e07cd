"""What a ConvAttn computes on its way (Eq. 4 and 5)."""

from typing import NamedTuple

import torch
from torch import Tensor

from esc_sr.families.esc.blocks import ConvAttn
from esc_sr.families.esc.kernels import LargeKernels


class Parts(NamedTuple):
    """Maps inside a ConvAttn.

    Attributes:
        idt: What only the ConvFFN made, (B, C - pdim, H, W): F_idt.
        large: The first channels convolved with the large kernel alone, (B, pdim, H, W).
        both: With large and dynamic kernel, (B, pdim, H, W): F_res.
        dynamic: The dynamic kernels, (B, pdim, 3, 3); None without.
    """

    idt: Tensor
    large: Tensor
    both: Tensor
    dynamic: Tensor | None


def parts(layer: ConvAttn, x: Tensor, shared: LargeKernels) -> Parts:
    """Compute what `ConvAttn.forward` puts together from the same inputs."""
    att, idt = x.tensor_split([layer.pdim], 1)
    kernels, dynamic = layer.large(shared), layer.dynamic_kernel(att)
    none = None if dynamic is None else torch.zeros_like(dynamic)
    return Parts(idt, layer.convolve(att, kernels, none), layer.convolve(att, kernels, dynamic), dynamic)
