"""The large kernel of ConvAttn (Sec. 3.3, Eq. 4 and 5)."""

import torch
from torch import Tensor, nn

LargeKernels = tuple[Tensor, ...]
"""One full kernel, or its channel and spatial factors."""


def symmetrize(kernel: Tensor) -> Tensor:
    """Average kernels (..., k, k) over the eight flips and rotations of the square; idempotent."""
    turns = [torch.rot90(kernel, n, (-2, -1)) for n in range(4)]
    return torch.stack([*turns, *(turn.flip(-1) for turn in turns)]).mean(0)


class LargeKernel(nn.Module):
    """The large kernel that all ConvAttns share (Sec. 3.3, Eq. 4).

    Deviation: averaged over flips and rotations, as the released code does and the paper does not say.
    """

    def __init__(self, pdim: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(pdim, pdim, size, size)))

    def forward(self) -> LargeKernels:
        """Return the kernel (pdim, pdim, size, size), symmetrized."""
        return (symmetrize(self.weight),)


class DecomposedLargeKernel(nn.Module):
    """ESC-FP's large kernel as a channel and a spatial factor (Eq. 5)."""

    def __init__(self, pdim: int, size: int) -> None:
        super().__init__()
        self.channel = nn.Parameter(torch.randn(pdim, pdim, 1, 1))
        self.spatial = nn.Parameter(nn.init.orthogonal_(torch.empty(pdim, 1, size, size)))

    def forward(self) -> LargeKernels:
        """Return the factors (pdim, pdim, 1, 1) and (pdim, 1, size, size)."""
        return self.channel, self.spatial
