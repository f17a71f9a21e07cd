"""Training samples for any scale: LR crops, points in them, and the colours of HR at these points (LTE)."""

import numpy as np
import torch
from torch import Tensor

from esc_sr.bicubic import Reduce, resize
from esc_sr.data.pairs import turn
from esc_sr.data.pictures import Source
from esc_sr.families.lte.network import pixel_centres


def cut_queries(
    picture: Source,
    generator: np.random.Generator,
    *,
    patch: int,
    scales: tuple[float, float],
    queries: int,
    reduce: Reduce = resize,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Take a crop of a picture, in one of 8 flips and rotations, reduced by a scale of its own (Supp. 6.2).

    Args:
        picture: not smaller than the largest scale times the patch.
        generator: source of all randomness.
        patch: side of the LR crop, px.
        scales: least and largest scale, drawn evenly between them.
        queries: points, at most patch * patch.
        reduce: makes LR of the crop.

    Returns:
        What `EncoderLTE.query` takes and what it should give: lr (3, patch, patch) in -1..1, points
        (queries, 2) and cells (queries, 2) as (y, x) in the coordinates -1..1 of the crop, and colours
        (queries, 3) in -1..1.
    """
    side = round(patch * generator.uniform(*scales))
    top, left = (int(generator.integers(length - side + 1)) for length in picture.size)
    hr = np.ascontiguousarray(turn(picture.crop(top, left, side, side), int(generator.integers(8))))
    lr = reduce(hr, (patch, patch))
    chosen = torch.from_numpy(generator.choice(side * side, queries, replace=False))
    return (
        _signed(torch.from_numpy(lr).permute(2, 0, 1)),
        pixel_centres(side, side)[chosen].float(),
        torch.full((queries, 2), 2 / side),
        _signed(torch.from_numpy(hr.reshape(-1, 3))[chosen]),
    )


def _signed(levels: Tensor) -> Tensor:
    """uint8 to float32 in -1..1."""
    return levels.to(torch.float32) / 127.5 - 1
