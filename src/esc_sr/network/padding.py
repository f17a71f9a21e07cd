"""How pictures lie in memory, and what is seen beyond their edges."""

import torch
from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """Pictures (B, C, H, W) with the channels of a pixel side by side, inside of `torch.func.vmap` too."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


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
            side = x.shape[axis]
            outside = (-before, 0), (side, side + after)
            edges = [x.index_select(axis, _reflected(*ends, x, axis)) for ends in outside]
            x = torch.cat((edges[0], x, edges[1]), axis)
    return x


def next_multiple(side: int, multiple: int) -> int:
    """The next multiple of some pixels; in graphs too, whose quotients of what is below 0 are rounded up."""
    return (side + multiple - 1) // multiple * multiple


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Reflect a picture (B, C, H, W) below and on the right, up to the next multiple of some pixels."""
    if torch.compiler.is_compiling():  # behind sides of this form, nothing has to be proved of multiples
        for axis in (2, 3):
            x = x.index_select(axis, _reflected(0, next_multiple(x.shape[axis], multiple), x, axis))
        return x
    return reflect_pad(x, 0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple)


def _reflected(first: int, end: int, x: Tensor, axis: int) -> Tensor:
    """The pixels along an axis of a picture that are seen at places from the first to before the end."""
    last = x.shape[axis] - 1
    step = torch.arange(first, end, device=x.device).abs()
    step = step.remainder(torch.full((1,), max(2 * last, 1), device=x.device))
    return torch.minimum(step, 2 * last - step)


def mirror_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """As `pad_to_multiple`, but edge pixels are mirrored too, and so come twice."""
    for axis in (2, 3):
        side = x.shape[axis]
        if torch.compiler.is_compiling() or side % multiple:
            period = torch.full((1,), 2 * side, device=x.device)
            step = torch.arange(next_multiple(side, multiple), device=x.device).remainder(period)
            x = x.index_select(axis, torch.minimum(step, 2 * side - 1 - step))
    return x
