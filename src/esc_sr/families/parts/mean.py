"""The mean colour of DIV2K, which many networks take from pictures and put back (EDSR, Lim et al. 2017)."""

import torch
from torch import Tensor, nn

from esc_sr.errors import UsageError
from esc_sr.families.shapes import numbers

MEAN = (0.4488, 0.4371, 0.4040)
"""Of DIV2K's training pictures, RGB in 0..1."""


class MeanShift(nn.Module):
    """A 1x1 convolution that does not learn: adds the mean colour, or takes it away.

    Deviation: it is no convolution in code, so that autocast leaves it in float32.
    """

    def __init__(self, sign: int, range_: float = 255.0) -> None:
        """Make it.

        Args:
            sign: 1 adds, -1 takes away.
            range_: White.
        """
        super().__init__()
        weight = numbers(lambda: shift(sign, range_)[0], 3, 3, 1, 1)
        bias = numbers(lambda: shift(sign, range_)[1], 3)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to the same shape."""
        return (x.unsqueeze(1) * self.weight).sum(2) + self.bias[:, None, None]


def require_rgb(lr: Tensor) -> None:
    """Refuse what a mean colour could be taken from as well, without a word: one channel, or whole numbers.

    Raises:
        UsageError: Not (B, 3, H, W), or no floats.
    """
    if lr.ndim != 4 or lr.shape[1] != 3 or not lr.is_floating_point():
        raise UsageError(f"pictures are (B, 3, H, W), floats in 0..1, not {tuple(lr.shape)} of {lr.dtype}")


def shift(sign: int, range_: float = 255.0) -> tuple[Tensor, Tensor]:
    """Weight (3, 3, 1, 1) and bias (3,) of a `MeanShift`."""
    return torch.eye(3)[:, :, None, None], sign * range_ * torch.tensor(MEAN)
