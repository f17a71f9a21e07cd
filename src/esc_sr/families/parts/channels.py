"""Attention of channels, and grids of pixels over a picture, of OmniSR and ASID."""

import torch
from torch import Tensor, nn

from esc_sr.families.parts.bands import in_bands
from esc_sr.families.parts.shell import convolved


def gathered(x: Tensor, side: int) -> Tensor:
    """Move the pixels of each grid of side x side over a map (B, H, W, C) into a window."""
    b, height, width, dim = x.shape
    x = x.view(b, side, height // side, side, width // side, dim).permute(0, 2, 1, 4, 3, 5)
    return x.reshape(b, height, width, dim)


def spread(x: Tensor, side: int) -> Tensor:
    """Move what `gathered` moved back to where it was."""
    b, height, width, dim = x.shape
    x = x.view(b, height // side, side, width // side, side, dim).permute(0, 2, 1, 4, 3, 5)
    return x.reshape(b, height, width, dim)


class CrossChannel(nn.Module):
    """Attention of channels, by their pixels in windows, or by those of a grid over the whole picture."""

    def __init__(self, dim: int, heads: int, window: int, grid: bool) -> None:
        super().__init__()
        self.heads, self.window, self.grid = heads, window, grid
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """Attend on what is normalised, and add the input: (B, C, H, W), whole windows, to the same shape."""
        x = x.permute(0, 2, 3, 1)

        def made(band: Tensor, _: bool = True) -> Tensor:
            y = norm(band.permute(0, 3, 1, 2))
            return self.qkv_dwconv(self.qkv(y)).permute(0, 2, 3, 1)  # reaches 1 pixel far

        if self.grid:
            y = x + self._attend(in_bands(made, x, halo=1))
        else:
            side = self.window
            y = in_bands(lambda band, _: band + self._attend(made(band)), x, side, halo=side)
        return y.permute(0, 3, 1, 2)

    def _attend(self, qkv: Tensor) -> Tensor:
        """Queries, keys and values (B, H, W, 3 C), whole windows, to what they attend to (B, H, W, C)."""
        b, height, width, _ = qkv.shape
        side = self.window
        # (B, down, in window, across, in window, three, heads, d) to (three, B, groups, heads, d, pixels)
        qkv = qkv.view(b, height // side, side, width // side, side, 3, self.heads, -1)
        qkv = qkv.permute((5, 0, 2, 4, 6, 7, 1, 3) if self.grid else (5, 0, 1, 3, 6, 7, 2, 4))
        q, k = (part.flatten(5).flatten(1, 2) for part in qkv[:2])
        sizes = (part.norm(dim=-1).clamp(min=1e-12) for part in (q, k))
        scores = (q @ k.transpose(-2, -1)) / (next(sizes)[..., None] * next(sizes)[..., None, :])
        del q, k
        y = (scores * self.temperature).softmax(-1) @ qkv[2].flatten(5).flatten(1, 2)
        y = y.view(qkv.shape[1:])  # (B, ., ., heads, d, ., .)
        y = y.permute((0, 5, 1, 6, 2, 3, 4) if self.grid else (0, 1, 5, 2, 6, 3, 4))
        return convolved(self.project_out, y.reshape(b, height, width, -1))
