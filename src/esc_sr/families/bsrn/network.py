"""BSRN, the blueprint separable residual network (Li et al., CVPRW 2022); names as in its checkpoints."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.contract import Config, Cost, Network, in_one_piece
from esc_sr.families.parts.fusion import fused
from esc_sr.network.padding import channels_last


@dataclass(frozen=True)
class BSRNConfig(Config):
    """Sizes of a BSRN; the defaults are the published ones.

    Attributes:
        scale: Enlargement, a whole number from 1.
        dim: Channels of the features.
        blocks: Distillation blocks.
    """

    scale: int = 2
    dim: int = 64
    blocks: int = 8

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        if min(self.scale, self.blocks) < 1 or self.dim < 16 or self.dim % 2:
            raise ValueError(
                f"scale {self.scale} and {self.blocks} blocks must be at least 1, "
                f"{self.dim} channels at least 16 and even"
            )


COPIES = 4
"""How often the picture is given to the first convolution."""

LEAST = 15
"""Least side of a picture, px, of which ESA's stride and pooling leave a pixel."""


class BlueprintConv(nn.Module):
    """A 1x1 convolution without bias, then a depthwise 3x3 (Sec. 3.1, BSConv)."""

    def __init__(self, dim: int, out: int, stride: int = 1, padding: int = 1) -> None:
        super().__init__()
        self.pw = nn.Conv2d(dim, out, 1, bias=False)
        self.dw = nn.Conv2d(out, out, 3, stride, padding, groups=out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to (B, out, H, W)."""
        return self.dw(self.pw(x))


class SpatialAttention(nn.Module):
    """ESA: weighs the pixels of features by what it sees far around them (Sec. 3.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = dim // 4
        self.conv1 = nn.Conv2d(dim, inner, 1)
        self.conv_f = nn.Conv2d(inner, inner, 1)
        self.conv2 = BlueprintConv(inner, inner, stride=2, padding=0)
        self.conv_max = BlueprintConv(inner, inner)
        self.conv3 = BlueprintConv(inner, inner)
        self.conv3_ = BlueprintConv(inner, inner)
        self.conv4 = nn.Conv2d(inner, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to the same shape."""
        narrow = self.conv1(x)
        y = F.max_pool2d(self.conv2(narrow), kernel_size=7, stride=3)
        y = F.gelu(self.conv3(F.gelu(self.conv_max(y))))
        y = F.interpolate(self.conv3_(y), x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.conv4(y + self.conv_f(narrow)))


class ContrastAttention(nn.Module):
    """CCA: weighs channels by their standard deviation plus mean over the whole picture (Sec. 3.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(dim, dim // 16, 1), nn.ReLU(), nn.Conv2d(dim // 16, dim, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to the same shape."""
        variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        return x * self.conv_du(variance.sqrt() + mean)


class DistillationBlock(nn.Module):
    """ESDB: three times half of the features is set aside and the rest refined (Sec. 3.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        self.c1_d, self.c2_d, self.c3_d = (nn.Conv2d(dim, half, 1) for _ in range(3))
        self.c1_r, self.c2_r, self.c3_r = (BlueprintConv(dim, dim) for _ in range(3))
        self.c4 = BlueprintConv(dim, half)
        self.c5 = nn.Conv2d(4 * half, dim, 1)
        self.esa = SpatialAttention(dim)
        self.cca = ContrastAttention(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to the same shape."""
        return x + self.cca(self.esa(self._distil(x)))

    def _distil(self, x: Tensor) -> Tensor:
        """What was set aside and what is left in the end, together."""
        aside = []
        for distil, refine in ((self.c1_d, self.c1_r), (self.c2_d, self.c2_r), (self.c3_d, self.c3_r)):
            aside.append(F.gelu(distil(x)))
            x = F.gelu(refine(x) + x)
        x = F.gelu(self.c4(x))
        return self.c5(torch.cat([*aside, x], 1))


class BSRN(Network):
    """BSRN (Sec. 3.2).

    Its channel attention sees the whole picture, so that a part of it has a slightly different result. Beside
    that, it matters little how far a part is seen beyond its edge.
    """

    config: BSRNConfig
    reach = 8

    def __init__(self, config: BSRNConfig) -> None:
        """Build it with random weights."""
        super().__init__()
        self.config = config
        self.inner = ("c1", "c2", *(f"B{number}" for number in range(1, config.blocks + 1)))
        dim = config.dim
        self.fea_conv = BlueprintConv(3 * COPIES, dim)
        for number in range(1, config.blocks + 1):
            self.add_module(f"B{number}", DistillationBlock(dim))
        self.c1 = nn.Conv2d(config.blocks * dim, dim, 1)
        self.c2 = BlueprintConv(dim, dim)
        last = nn.Conv2d(dim, 3 * config.scale**2, 3, padding=1)
        self.upsampler = nn.ModuleDict({"upsampleOneStep": nn.Sequential(last)})

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`.

        Measured: 8.5 numbers for each channel or, at a large scale, two results and 2.3 for each; and 3 more.
        """
        dim = self.config.dim
        return in_one_piece(max(9 * dim, 6 * self.config.scale**2 + 3 * dim) + 3, height, width)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures, as `Network` says.

        Deviation: sides below 15 px are continued to the right and below by their last pixel, so that ESA's
        pooling finds one; the published network has no result for these.
        """
        height, width = lr.shape[2:]
        beyond = (0, max(LEAST - width, 0), 0, max(LEAST - height, 0))
        x = channels_last(F.pad(lr, beyond, mode="replicate"))
        shallow = f = self.fea_conv(x.repeat(1, COPIES, 1, 1))
        sr = self.upsampler["upsampleOneStep"](self._fuse(f) + shallow)
        return F.pixel_shuffle(sr, self.config.scale)[
            :, :, : self.config.scale * height, : self.config.scale * width
        ]

    def _fuse(self, f: Tensor) -> Tensor:
        """Shallow features to deep ones."""
        return self.c2(F.gelu(fused(self.c1, self._results(f))))

    def _results(self, f: Tensor) -> Iterator[Tensor]:
        """What each block makes of that of the one before."""
        for number in range(1, self.config.blocks + 1):
            f = self.get_submodule(f"B{number}")(f)
            yield f
