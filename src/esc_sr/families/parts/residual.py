"""Skips around layers, and weights of channels from their means, as RCAN has them (Zhang et al. 2018)."""

from torch import Tensor, nn


class Residual(nn.Module):
    """Layers in a row, whose input is added to their result."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return x + self.body(x)


def squeeze(dim: int, inner: int) -> list[nn.Module]:
    """The layers that make weights (B, dim, 1, 1) of means of channels: down to `inner` of them and back."""
    return [nn.Conv2d(dim, inner, 1), nn.ReLU(), nn.Conv2d(inner, dim, 1), nn.Sigmoid()]


class ChannelAttention(nn.Module):
    """Weighs channels by what follows from their means over the picture (RCAN, Sec. 3.3)."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(*squeeze(dim, inner))

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to the same shape."""
        return x * self.conv_du(x.mean((2, 3), keepdim=True))


class PooledAttention(nn.Module):
    """The same by the names that BasicSR has for it."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), *squeeze(dim, inner))

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to the same shape."""
        return x * self.attention(x)
