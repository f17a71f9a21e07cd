"""LR/HR pairs of the real-world recipes: crops, degraded in batches and mixed over time (Supp. 6.3)."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esc_sr.data.degrade import Degradation, degrade
from esc_sr.data.pairs import Pair, draw, turn
from esc_sr.data.pool import PairPool, crop_pairs
from esc_sr.data.tiles import Tile, require_sides


class DegradedSampler:
    """Random crops of pictures held in memory, every other one mirrored, degraded where training is done."""

    def __init__(
        self,
        tiles: Sequence[Tile],
        settings: Degradation,
        *,
        patch: int,
        context: int,
        pool: PairPool,
        device: torch.device,
    ) -> None:
        """Take pictures to draw from.

        Args:
            tiles: at least one, none smaller than the scale times the context.
            settings: what to draw degradations from.
            patch: side of the LR crop, px.
            context: side of the LR picture that it is cut out of, px; at least the patch.
            pool: mixes the crops of several batches; changed by every sample.
            device: where to degrade.

        Raises:
            DataError: no pictures, or one that is too small.
        """
        self.side = settings.scale * context
        least = min((min(tile.pixels.shape[:2]) for tile in tiles), default=0)
        advice = f"--set context={least // settings.scale}"
        require_sides(((tile.name, tile.pixels) for tile in tiles), self.side, advice=advice)
        self.tiles = tiles
        self.settings = settings
        self.patch = patch
        self.pool = pool
        self.device = device

    def sample(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw a batch; the state of `generator`, and the pool's, are the sampler's state.

        Returns:
            lr (batch, 3, patch, patch) and hr (batch, 3, scale*patch, scale*patch), float32, 0..1; hr is not
            sharpened.
        """
        crops = np.stack([self._crop(generator) for _ in range(batch)])
        hr = _to_network(crops, self.device)
        here = torch.Generator(self.device).manual_seed(draw(2**62, generator))
        lr = degrade(hr, self.settings, here)
        return self.pool.exchange(*crop_pairs(lr, hr, self.patch, here), here)

    def _crop(self, generator: torch.Generator) -> NDArray[np.uint8]:
        """One crop, (side, side, 3)."""
        pixels = self.tiles[draw(len(self.tiles), generator)].pixels
        top, left = (draw(length - self.side + 1, generator) for length in pixels.shape[:2])
        return turn(pixels[top : top + self.side, left : left + self.side], 4 * draw(2, generator))


def degraded_pairs(tiles: Iterable[Tile], settings: Degradation) -> Iterator[Pair]:
    """Degrade whole pictures, cropped to a multiple of the scale, to validate on: the same every time."""
    for number, tile in enumerate(tiles):
        height, width = (side - side % settings.scale for side in tile.pixels.shape[:2])
        hr = tile.pixels[:height, :width]
        generator = torch.Generator().manual_seed(number)
        lr = degrade(_to_network(hr[None], torch.device("cpu")), settings, generator)[0]
        pixels = (lr * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
        yield Pair(tile.name, pixels.numpy(), hr)


def _to_network(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(B, H, W, 3), 0..255 -> (B, 3, H, W) float32, 0..1."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).contiguous().float() / 255
