"""Working through a picture in bands of rows, exactly, and reflecting it at its edges."""

from collections.abc import Callable

import torch
from torch import Tensor

BAND_PIXELS = 2**18


def rowwise(stage: Callable[[Tensor], Tensor], x: Tensor, halo: int = 0, align: int = 1) -> Tensor:
    """Apply a local stage to a picture, in bands of rows when no gradient is recorded.

    The result is that of `stage(x)`; only the stage's intermediate results are smaller.

    Args:
        stage: (B, C, h, W) to (B, C', s h, s W) for any h; an output row may depend on input rows up to
            `halo` away, or on those of its own group of `align` rows.
        x: (B, C, H, W).
        halo: Reach of the stage in rows, upwards and downwards.
        align: Bands start at multiples of this many rows.

    Returns:
        (B, C', s H, s W).
    """
    height, width = x.shape[-2:]
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return stage(x)
    rows = -(-max(BAND_PIXELS // width, 4 * align, 4 * halo, 1) // align) * align
    tops = range(0, max(height - rows // 2, 1), rows)  # a last band of less than half joins its neighbour
    if len(tops) == 1:
        return stage(x)
    out: Tensor | None = None
    for top, bottom in zip(tops, [*tops[1:], height], strict=True):
        first, last = max(top - halo, 0), min(bottom + halo, height)
        band = stage(x[:, :, first:last])
        scale = band.shape[2] // (last - first)
        if out is None:
            out = band.new_empty(*band.shape[:2], height * scale, band.shape[3])
        out[:, :, top * scale : bottom * scale] = band[:, :, (top - first) * scale : (bottom - first) * scale]
    assert out is not None
    return out


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
            steps = torch.arange(-before, last + 1 + after, device=x.device).abs()
            steps = steps % max(2 * last, 1)
            x = x.index_select(axis, torch.minimum(steps, 2 * last - steps))
    return x


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Reflect a picture (B, C, H, W) below and on the right, up to the next multiple of some pixels."""
    return reflect_pad(x, 0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple)
