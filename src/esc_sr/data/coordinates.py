"""Training samples for any scale: LR crops, points in them, and the colours of HR at these points (LTE)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esc_sr.bicubic import Reduce, resize
from esc_sr.data.pairs import turn
from esc_sr.data.pictures import Source
from esc_sr.data.places import draw_crop
from esc_sr.data.smooth import draw_smooth
from esc_sr.families.lte.network import pixel_centres


def cut_queries(
    picture: Source,
    generator: np.random.Generator,
    *,
    patch: int,
    scales: tuple[float, float],
    queries: int,
    reduce: Reduce = resize,
    flat: float = 0.0,
    places: int = 1,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Take a crop of a picture, in one of 8 flips and rotations, reduced by a scale of its own (Supp. 6.2).

    Args:
        picture: not smaller than the largest scale times the patch.
        generator: source of all randomness.
        patch: side of the LR crop, px.
        scales: least and largest scale, drawn evenly between them.
        queries: points, at most patch * patch.
        reduce: makes LR of the crop.
        flat: probability that it is drawn by `draw_smooth` instead.
        places: as of `draw_crop`.

    Returns:
        What `EncoderLTE.query` takes and what it should give: lr (3, patch, patch) in -1..1, points
        (queries, 2) and cells (queries, 2) as (y, x) in the coordinates -1..1 of the crop, and colours
        (queries, 3) in -1..1.
    """
    side = round(patch * generator.uniform(*scales))
    if flat and generator.random() < flat:
        lr, hr = (torch.from_numpy(drawn) * 2 - 1 for drawn in draw_smooth(generator, patch, side))
    else:
        *_, pixels = draw_crop(
            picture.size, side, generator, places, lambda top, left: picture.crop(top, left, side, side)
        )
        pixels = np.ascontiguousarray(turn(pixels, int(generator.integers(8))))
        lr, hr = _signed(reduce(pixels, (patch, patch))), _signed(pixels)
    chosen = torch.from_numpy(generator.choice(side * side, queries, replace=False))
    return (
        lr,
        pixel_centres(side, side)[chosen].float(),
        torch.full((queries, 2), 2 / side),
        hr.flatten(1).T[chosen],
    )


def _signed(pixels: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3), 0..255 -> (3, H, W) float32 in -1..1."""
    return torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32) / 127.5 - 1
