"""Convolutions with gates, of OmniSR and ASID; maps are (B, C, H, W)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.parts.bands import in_bands
from esc_sr.network.padding import channels_last, next_multiple

LEAST = 15
"""Least side of a picture, px, of which the stride and pooling of `SpatialGate` leave a pixel."""


def whole(side: int, window: int) -> int:
    """A side of whole windows, of which the pooling of `SpatialGate` leaves a pixel."""
    larger = torch.sym_max if torch.compiler.is_compiling() else max  # sides are tensors in `torch.jit.trace`
    return next_multiple(larger(side, LEAST), window)


def filled(lr: Tensor, window: int) -> Tensor:
    """Pictures with zeros below and on the right, up to whole windows."""
    below, right = (whole(side, window) - side for side in lr.shape[2:])
    return channels_last(F.pad(lr, (0, right, 0, below)))


class ChannelGate(nn.Module):
    """Squeeze and excitation: weighs channels by what follows from their means over the picture."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        squeeze, excite = nn.Linear(dim, dim // 4, bias=False), nn.Linear(dim // 4, dim, bias=False)
        self.gate = nn.Sequential(nn.Identity(), squeeze, nn.SiLU(), excite, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return x * self.gate(x.flatten(2).mean(2))[:, :, None, None]


class LocalConv(nn.Module):
    """1x1, depthwise 3x3 and 1x1 convolutions with a `ChannelGate` among them, whose input is added."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fn = nn.Sequential(
            nn.Conv2d(dim, dim, 1),
            nn.GELU(),
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim),
            nn.GELU(),
            ChannelGate(dim),
            nn.Conv2d(dim, dim, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return self.fn(x) + x


class GatedFFN(nn.Module):
    """A 1x1 and a depthwise 3x3 convolution, then one half of the channels gates the other."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(dim, 2 * dim, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape; reaches 1 pixel far."""
        gate, x = self.dwconv(self.project_in(x)).chunk(2, 1)
        return self.project_out(F.gelu(gate) * x)


class Normed(nn.Module):
    """Normalises, and adds its input to what a layer makes of that, which reaches no further than 1 pixel."""

    def __init__(self, norm: nn.Module, fn: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = norm, fn

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape; in bands where no gradient is recorded."""
        return added(x, self.norm, self.fn)


def added(x: Tensor, norm: nn.Module, fn: nn.Module) -> Tensor:
    """A map (B, C, H, W) and what a layer that reaches no further than 1 pixel makes of it, normalised."""

    def stage(band: Tensor, _: bool) -> Tensor:
        y = band.permute(0, 3, 1, 2)
        return (y + fn(norm(y))).permute(0, 2, 3, 1)

    return in_bands(stage, x.permute(0, 2, 3, 1), halo=1).permute(0, 3, 1, 2)


class SpatialGate(nn.Module):
    """ESA: weighs pixels by what is seen far around them (RFANet, Liu et al., CVPR 2020)."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, inner, 1)
        self.conv_f = nn.Conv2d(inner, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=2)
        self.conv3 = nn.Conv2d(inner, inner, 3, padding=1)
        self.conv4 = nn.Conv2d(inner, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), no side below `LEAST`, to the same shape."""
        narrow = self.conv1(x)
        y = self.conv3(F.max_pool2d(self.conv2(narrow), kernel_size=7, stride=3))
        y = F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.conv4(y + self.conv_f(narrow)))
