"""Pixels sorted by what they are, of ATD and MambaIRv2."""

import torch
from torch import Tensor


def sorted_by(kinds: Tensor) -> Tensor:
    """The order (B, H W) in which pixels are sorted by their kinds, (B, H, W), whole numbers.

    Equals keep their order, so that the result is the same on each machine; the authors leave it open.
    """
    return kinds.flatten(1).sort(stable=True).indices


def put_back(x: Tensor, order: Tensor) -> Tensor:
    """Sorted pixels (B, H W, C) where they were."""
    return torch.empty_like(x).scatter_(1, order[..., None].expand_as(x), x)
