"""LR/HR pairs: LR made from whole HR pictures, then crops of both at the same place and the same way up."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esc_sr.data.tiles import Tile, require_sides
from esc_sr.resize import downscale


class Pair(NamedTuple):
    """A picture in both sizes: lr (H, W, 3), hr (scale*H, scale*W, 3), RGB, 0..255."""

    name: str
    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]


def make_pairs(tiles: Iterable[Tile], scale: int) -> Iterator[Pair]:
    """Reduce whole pictures by `scale`, as benchmark LR files are made; HR is cropped to a multiple of it."""
    for tile in tiles:
        lr = downscale(tile.pixels, scale)
        hr = tile.pixels[: lr.shape[0] * scale, : lr.shape[1] * scale]
        yield Pair(tile.name, lr, hr)


class CropSampler:
    """Random crops of pairs held in memory, each in one of the 8 flips and rotations (Supp. 6.1)."""

    def __init__(self, pairs: Sequence[Pair], scale: int, patch: int) -> None:
        """Take pairs to draw from.

        Args:
            pairs: at least one, none smaller than the patch.
            scale: HR pixels per LR pixel along a side.
            patch: side of the LR crop, px.

        Raises:
            DataError: no pairs, or one that is smaller than the patch.
        """
        require_sides(((pair.name, pair.lr) for pair in pairs), patch, "px in LR")
        self.pairs = pairs
        self.scale = scale
        self.patch = patch

    def sample(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw a batch; all randomness comes from `generator`, so that its state is the sampler's state.

        Returns:
            lr (batch, 3, patch, patch) and hr (batch, 3, scale*patch, scale*patch), float32, 0..1.
        """
        crops = [self._crop(generator) for _ in range(batch)]
        lr, hr = (torch.from_numpy(np.stack(side)) for side in zip(*crops, strict=True))
        return _to_network(lr), _to_network(hr)

    def _crop(self, generator: torch.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One pair of crops, (patch, patch, 3) and (scale*patch, scale*patch, 3)."""
        pair = self.pairs[draw(len(self.pairs), generator)]
        height, width = pair.lr.shape[:2]
        top = draw(height - self.patch + 1, generator)
        left = draw(width - self.patch + 1, generator)
        symmetry = draw(8, generator)
        lr = pair.lr[top : top + self.patch, left : left + self.patch]
        top, left, side = (self.scale * value for value in (top, left, self.patch))
        hr = pair.hr[top : top + side, left : left + side]
        return turn(lr, symmetry), turn(hr, symmetry)


def turn(pixels: NDArray[np.uint8], symmetry: int) -> NDArray[np.uint8]:
    """Picture (H, W, C) in symmetry 0..7 of the square: `symmetry % 4` quarter turns, from 4 on mirrored."""
    turned = np.rot90(pixels, symmetry % 4)
    return turned[:, ::-1] if symmetry >= 4 else turned


def draw(count: int, generator: torch.Generator) -> int:
    """A number from 0 to count - 1."""
    return int(torch.randint(count, (), generator=generator))


def _to_network(pixels: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32, 0..1."""
    return pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32) / 255
