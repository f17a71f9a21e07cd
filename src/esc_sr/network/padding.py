"""Reflecting a picture at its edges."""

import torch
from torch import Tensor


def reflect_pad(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Extend a picture by reflection about its edge pixels, as often as needed.

    Args:
        x: (B, C, H, W), any side from 1; a side of 1 is replicated.
        left: Columns to add on the left; likewise the others.
        right: Columns to add on the right.
        top: Rows to add above.
        bottom: Rows to add below.

    Returns:
        (B, C, top + H + bottom, left + W + right).
    """
    for axis, before, after in ((2, top, bottom), (3, left, right)):
        if before or after:
            last = x.shape[axis] - 1
            ahead = torch.arange(-before, 0, device=x.device)
            behind = torch.arange(last + 1, last + 1 + after, device=x.device)
            period = torch.full((1,), max(2 * last, 1), device=x.device)
            steps = [step.abs().remainder(period) for step in (ahead, behind)]
            edges = [x.index_select(axis, torch.minimum(step, 2 * last - step)) for step in steps]
            x = torch.cat((edges[0], x, edges[1]), axis)
    return x


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Reflect a picture (B, C, H, W) below and on the right, up to the next multiple of some pixels."""
    return reflect_pad(x, 0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple)


def mirror_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """As `pad_to_multiple`, but edge pixels are mirrored too, and so come twice."""
    for axis in (2, 3):
        side = x.shape[axis]
        if more := -side % multiple:
            step = torch.arange(side, side + more, device=x.device).remainder(
                torch.full((1,), 2 * side, device=x.device)
            )
            x = torch.cat((x, x.index_select(axis, torch.minimum(step, 2 * side - 1 - step))), axis)
    return x
