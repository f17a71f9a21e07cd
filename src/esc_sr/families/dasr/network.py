"""DASR (Liang et al., ECCV 2022), whose weights follow from how bad a picture is; names as in its files."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.contract import Config, Cost, Network, in_one_piece
from esc_sr.families.parts.upsampling import stages
from esc_sr.network.padding import channels_last


@dataclass(frozen=True)
class DASRConfig(Config):
    """Sizes of a DASR; the defaults are the published ones.

    Attributes:
        scale: Enlargement: 1, 2, 3, 4 or 8.
        dim: Channels of the features.
        blocks: Residual blocks.
        experts: Weights that are mixed for each picture.
        predictor: Channels of the network that looks at the picture.
        qualities: Numbers that it describes its quality with.
    """

    scale: int = 4
    dim: int = 64
    blocks: int = 16
    experts: int = 5
    predictor: int = 64
    qualities: int = 33

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        stages(self.scale)
        if min(self.dim, self.blocks, self.experts, self.predictor, self.qualities) < 1:
            raise ValueError(f"all sizes must be at least 1: {self}")


HIDDEN = 15
"""Numbers between the qualities and the weights of the experts."""

SLOPE, SEEN_SLOPE = 0.1, 0.2
"""Of leaky ReLU where a picture is enlarged, and where it is looked at."""


class QualityPredictor(nn.Module):
    """Looks at a picture and says how much of each expert it needs (Sec. 3.2)."""

    def __init__(self, config: DASRConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(6):
            channels = 3 if number == 0 else config.predictor
            out = config.qualities if number == 5 else config.predictor
            layers += [
                nn.Conv2d(channels, out, 5, stride=2 if number == 3 else 1, padding=2),
                nn.LeakyReLU(SEEN_SLOPE),
            ]
        self.ConvNet = nn.Sequential(*layers)
        self.MappingNet = nn.Sequential(
            nn.Linear(config.qualities, HIDDEN), nn.Linear(HIDDEN, config.experts)
        )

    def forward(self, lr: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) to shares (B, experts), of any sum."""
        return self.MappingNet(self.ConvNet(lr).mean((2, 3)))


class MixedConv(nn.Module):
    """A 3x3 convolution whose weight is mixed for each picture from those of experts (Sec. 3.3)."""

    def __init__(self, dim: int, out: int, experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, out, dim, 3, 3))
        self.bias = nn.Parameter(torch.zeros(experts, out))
        for weight in self.weight:
            nn.init.kaiming_normal_(weight, 0.1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """As of any module; a memory format of 4 dimensions leaves weights of 5 as they are."""
        return super()._apply(lambda t: fn(t.flatten(1)).view(t.shape), recurse)

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """(B, dim, H, W) with shares (B, experts) to (B, out, H, W)."""
        weights = torch.mm(shares, self.weight.flatten(1)).view(-1, *self.weight.shape[1:])
        biases = torch.mm(shares, self.bias)
        if len(x) == 1:
            return F.conv2d(x, weights[0], biases[0], padding=1)
        each = F.conv2d(
            x.reshape(1, -1, *x.shape[2:]),
            weights.flatten(0, 1),
            biases.flatten().to(weights.dtype),
            padding=1,
            groups=len(x),
        )
        return each.view(len(x), -1, *x.shape[2:])


class MixedBlock(nn.Module):
    """Two of them with a skip."""

    def __init__(self, dim: int, experts: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (MixedConv(dim, dim, experts) for _ in range(2))

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """(B, dim, H, W) to the same shape."""
        return x + self.conv2(F.relu(self.conv1(x, shares)), shares)


class MixedResNet(nn.Module):
    """Enlarges pictures by weights that are mixed for each (Sec. 3.3)."""

    def __init__(self, config: DASRConfig) -> None:
        super().__init__()
        self.scale, dim, experts = config.scale, config.dim, config.experts
        self.conv_first = MixedConv(3, dim, experts)
        self.body = nn.ModuleList(MixedBlock(dim, experts) for _ in range(config.blocks))
        for number, factor in enumerate(stages(config.scale), 1):
            self.add_module(f"upconv{number}", MixedConv(dim, dim * factor**2, experts))
        self.conv_hr = MixedConv(dim, dim, experts)
        self.conv_last = MixedConv(dim, 3, experts)

    def forward(self, lr: Tensor, shares: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) with shares (B, experts) to (B, 3, scale H, scale W)."""
        x = F.leaky_relu(self.conv_first(lr, shares), SLOPE)
        for block in self.body:
            x = block(x, shares)
        for number, factor in enumerate(stages(self.scale), 1):
            x = F.pixel_shuffle(self.get_submodule(f"upconv{number}")(x, shares), factor)
            x = F.leaky_relu(x, SLOPE)
        x = self.conv_hr(x, shares)
        x = self.conv_last(F.leaky_relu(x, SLOPE), shares)
        return x + F.interpolate(lr, scale_factor=self.scale, mode="bilinear", align_corners=False)


class DASR(Network):
    """DASR (Sec. 3.1): its parts are published in a file each.

    The experts are chosen by the whole picture; tiles choose each their own, and are approximate.
    """

    config: DASRConfig
    inner = ("g.body",)

    def __init__(self, config: DASRConfig) -> None:
        """Build it with random weights."""
        super().__init__()
        self.config = config
        self.reach = 2 * config.blocks + 4
        self.g, self.p = MixedResNet(config), QualityPredictor(config)

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`; measured: around the last shuffle, or what looks at the picture."""
        config = self.config
        last = config.dim * (2 * config.scale**2 + 2) + 9 * config.scale**2
        return in_one_piece(6 + max(4 * config.dim, 3 * config.predictor, last), height, width)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures, as `Network` says."""
        lr = channels_last(lr)
        return self.g(lr, self.p(lr))
