"""From features to pictures, as several networks do it."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


class DirectShuffle(nn.Sequential):
    """One 3x3 convolution to 3 scale^2 channels, and a pixel shuffle (ESPCN, Shi et al. 2016)."""

    def __init__(self, dim: int, scale: int) -> None:
        super().__init__(nn.Conv2d(dim, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))


WIDTH = 64
"""Channels of `enlarge_nearest`."""


def nearest_layers(dim: int, width: int = WIDTH) -> dict[str, nn.Module]:
    """The layers of `enlarge_nearest`, by the names that they have in a network."""
    before = nn.Sequential(nn.Conv2d(dim, width, 3, padding=1), nn.LeakyReLU())
    middle = {name: nn.Conv2d(width, width, 3, padding=1) for name in ("conv_up1", "conv_up2", "conv_hr")}
    return {
        "conv_before_upsample": before,
        **middle,
        "conv_last": nn.Conv2d(width, 3, 3, padding=1),
    }


def enlarge_nearest(x: Tensor, layer: Callable[[str], nn.Module]) -> Tensor:
    """Enlarge x4 by nearest neighbours, with a convolution behind each step, as Real-ESRGAN does.

    Args:
        x: Features (B, dim, H, W).
        layer: The layers of `nearest_layers` by name.

    Returns:
        (B, 3, 4 H, 4 W).
    """
    x = layer("conv_before_upsample")(x)
    for name in ("conv_up1", "conv_up2"):
        x = layer(name)(F.interpolate(x, scale_factor=2, mode="nearest"))
        x = F.leaky_relu(x, 0.2, inplace=True)
    return layer("conv_last")(F.leaky_relu(layer("conv_hr")(x), 0.2, inplace=True))
