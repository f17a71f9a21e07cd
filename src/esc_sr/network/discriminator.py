"""The U-Net that tells real pictures from restored ones, pixel by pixel; training only (Supp. 6.3)."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SMALLEST = 8  # px: three times halved, one is left


class UNetDiscriminator(nn.Module):
    """Real-ESRGAN's discriminator: three levels down and up, skips added, spectral norm inside.

    Every forward in training mode takes one step of the power iteration that estimates the norms.
    """

    def __init__(self, width: int = 64) -> None:
        """Take the channels at full size; 64 as published, which makes 4,376,897 parameters."""
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(_conv(width << i, width << (i + 1), 4, stride=2) for i in range(3))
        self.up = nn.ModuleList(_conv(width << (i + 1), width << i, 3) for i in reversed(range(3)))
        self.refine = nn.ModuleList(_conv(width, width, 3) for _ in range(2))
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Judge pictures.

        Args:
            x: (B, 3, H, W), 0..1; sides from 8 px, even or odd.

        Returns:
            (B, 1, H, W) logits, above 0 for real.

        Raises:
            ValueError: A side is shorter.
        """
        if min(x.shape[2:]) < SMALLEST:
            raise ValueError(
                f"discriminator: picture of {x.shape[3]} x {x.shape[2]} px, at least {SMALLEST} needed"
            )
        h = _activate(self.first(x))
        skips = []
        for down in self.down:
            skips.append(h)
            h = _activate(down(h))  # (B, 2 C, H / 2, W / 2)
        for up in self.up:
            skip = skips.pop()
            h = F.interpolate(h, skip.shape[2:], mode="bilinear")
            h = _activate(up(h)) + skip  # (B, C / 2, 2 H, 2 W)
        for refine in self.refine:
            h = _activate(refine(h))
        return self.last(h)


def _conv(dim: int, out: int, kernel: int, stride: int = 1) -> nn.Module:
    """A convolution without bias, of spectral norm 1."""
    return spectral_norm(nn.Conv2d(dim, out, kernel, stride, padding=1, bias=False))


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
