"""Maps (B, H, W, C) worked through in bands of rows where no gradient is recorded, to keep less alive."""

from collections.abc import Callable

import torch
from torch import Tensor

from esc_sr.families.contract import Cost, in_one_piece
from esc_sr.network.rows import divisible

PIXELS = 2**14
"""Of a band of one picture."""


def in_bands(
    stage: Callable[[Tensor, bool], Tensor], x: Tensor, align: int = 1, halo: int = 0, shift: int = 0
) -> Tensor:
    """Apply what sees no further than groups of `align` rows, with the same result as to the whole map.

    Args:
        stage: A band (B, h, W, C) of whole groups, and whether it is the last, to (B, h, W, C').
        x: (B, H, W, C), H whole groups.
        align: Rows of a group.
        halo: Rows above and below a band that the stage sees besides; there, it may give anything.
        shift: Pixels by which the stage sees the map moved up and to the left, around its edges; with it
            there is no halo.

    Returns:
        (B, H, W, C'), not moved; in one piece where it is not `divisible`.
    """
    height = x.shape[1]
    if not divisible(x) or (rows := max(PIXELS // (x.shape[2] * align), 1) * align) >= height:
        return roll(stage(roll(x, shift), True), -shift)
    out: Tensor | None = None
    for top in range(0, height, rows):
        bottom, first = min(top + rows, height), max(top - halo, 0)
        band, around = x[:, first + shift : bottom + shift + halo], max(bottom + shift - height, 0)
        if shift:
            band = torch.cat((band, x[:, :around]), 1).roll(-shift, 2)
        y = stage(band, bottom == height)[:, top - first : bottom - first]
        y = y.roll(shift, 2) if shift else y
        if out is None:
            out = y.new_empty(*x.shape[:3], y.shape[3])
        out[:, top + shift : bottom + shift] = y[:, : y.shape[1] - around]
        out[:, :around] = y[:, y.shape[1] - around :]
    assert out is not None
    return out


def roll(x: Tensor, shift: int) -> Tensor:
    """Move a map (B, H, W, C) up and to the left by some pixels, around its edges."""
    return x.roll((-shift, -shift), (1, 2)) if shift else x


def in_bands_at_most(numbers: int, band: int, height: int, width: int, align: int = 1) -> Cost:
    """What a network takes in one piece that works in such bands.

    Args:
        numbers: Alive at once for each pixel of the input, beside a band.
        band: Likewise, for each pixel of a band.
        height: Of the input, px.
        width: Likewise.
        align: As in `in_bands`.
    """
    cost, pixels = in_one_piece(numbers, height, width), max(PIXELS, align * width)
    return cost._replace(band=cost.band + 4 * band * min(pixels, height * width))
