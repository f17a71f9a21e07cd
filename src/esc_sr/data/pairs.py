"""LR/HR pairs: LR made from whole HR pictures, then crops of both at the same place and the same way up."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esc_sr.bicubic import downscale
from esc_sr.data.pictures import Decoded, Source
from esc_sr.data.places import draw_crop
from esc_sr.data.smooth import draw_smooth


class Pair(NamedTuple):
    """A picture in both sizes: lr (H, W, 3), hr (scale*H, scale*W, 3), RGB, 0..255."""

    name: str
    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]


def make_pairs(pictures: Iterable[Decoded], scale: int) -> Iterator[Pair]:
    """Reduce whole pictures by `scale`, as benchmark LR files are made; HR is cropped to a multiple of it."""
    for picture in pictures:
        lr = downscale(picture.pixels, scale)
        hr = picture.pixels[: lr.shape[0] * scale, : lr.shape[1] * scale]
        yield Pair(picture.name, lr, hr)


def cut_pair(
    pair: tuple[Source, Source],
    generator: np.random.Generator,
    *,
    scale: int,
    patch: int,
    flat: float = 0.0,
    places: int = 1,
) -> tuple[Tensor, Tensor]:
    """Take a crop of a pair at a random place, in one of the 8 flips and rotations (Supp. 6.1).

    Args:
        pair: LR and HR.
        generator: source of all randomness.
        scale: HR pixels per LR pixel along a side.
        patch: side of the LR crop, px.
        flat: probability that it is drawn by `draw_smooth` instead.
        places: as of `draw_crop`, by HR.

    Returns:
        lr (3, patch, patch) and hr (3, scale*patch, scale*patch), float32, 0..1.
    """
    if flat and generator.random() < flat:
        lr, hr = map(torch.from_numpy, draw_smooth(generator, patch, patch * scale))
        return lr, hr
    low, high = pair
    side = scale * patch
    top, left, large = draw_crop(
        low.size, patch, generator, places, lambda top, left: high.crop(scale * top, scale * left, side, side)
    )
    symmetry = int(generator.integers(8))
    small = low.crop(top, left, patch, patch)
    return to_network(turn(small, symmetry)), to_network(turn(large, symmetry))


def turn(pixels: NDArray[np.uint8], symmetry: int) -> NDArray[np.uint8]:
    """Picture (H, W, C) in symmetry 0..7 of the square: `symmetry % 4` quarter turns, from 4 on mirrored."""
    turned = np.rot90(pixels, symmetry % 4)
    return turned[:, ::-1] if symmetry >= 4 else turned


def to_network(pixels: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) RGB, 0..255 -> (3, H, W) float32, 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(torch.float32) / 255
