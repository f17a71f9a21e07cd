"""RDN, the residual dense network (Zhang et al., CVPR 2018); names as in EDSR-PyTorch's checkpoints."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esc_sr.families.contract import Config, Cost, Encoder, Network, in_one_piece
from esc_sr.families.parts.fusion import fused
from esc_sr.families.parts.reach import tiles_reach
from esc_sr.families.parts.upsampling import stages, upsampler, upsampler_numbers
from esc_sr.network.padding import channels_last
from esc_sr.network.rows import Bands


@dataclass(frozen=True)
class RDNConfig(Config):
    """Sizes of an RDN; the defaults are the published ones.

    Attributes:
        scale: Enlargement: 1, 2, 3, 4 or 8.
        dim: Channels of the features, G0 in the paper.
        growth: Channels that each convolution of a block adds, G there.
        blocks: Residual dense blocks, D there.
        convs: Convolutions in each of them, C there.
    """

    scale: int = 2
    dim: int = 64
    growth: int = 64
    blocks: int = 16
    convs: int = 8

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        stages(self.scale)
        if min(self.dim, self.growth, self.blocks, self.convs) < 1:
            raise ValueError(
                f"{self.dim} and {self.growth} channels, {self.blocks} blocks and {self.convs} convolutions "
                "must be at least 1"
            )


class DenseConv(nn.Module):
    """A convolution and ReLU, whose result stands behind its input."""

    def __init__(self, dim: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(dim, growth, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to (B, dim + growth, H, W)."""
        return torch.cat((x, self.conv(x)), 1)


class DenseBlock(nn.Module):
    """RDB: each convolution sees what all before it have made, and their local fusion is added (Sec. 3.2)."""

    def __init__(self, dim: int, growth: int, convs: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(DenseConv(dim + number * growth, growth) for number in range(convs)))
        self.LFF = nn.Conv2d(dim + convs * growth, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to the same shape."""
        return self.LFF(self.convs(x)) + x


class RDNEncoder(Encoder):
    """RDN without its upsampler, which gives features to LTE."""

    inner = ("SFENet2", "RDBs", "GFF")
    blend = 2

    def __init__(self, config: RDNConfig) -> None:
        """Build it with random weights."""
        super().__init__()
        self.dim = dim = config.dim
        self.dense = config.growth * config.convs
        self.reach, self.exact = tiles_reach(3 + config.blocks * config.convs)
        self.SFENet1 = nn.Conv2d(3, dim, 3, padding=1)
        self.SFENet2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.RDBs = nn.ModuleList(DenseBlock(dim, config.growth, config.convs) for _ in range(config.blocks))
        self.GFF = nn.Sequential(nn.Conv2d(config.blocks * dim, dim, 1), nn.Conv2d(dim, dim, 3, padding=1))

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`; measured: around the last concatenation."""
        return in_one_piece(6 + 2 * self.dense + 5 * self.dim, height, width)

    def encode(self, x: Tensor, bands: Bands | None) -> Tensor:
        """As `Encoder.encode`."""
        return self.features(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to features (B, dim, H, W)."""
        return self.features(x)

    def features(self, x: Tensor) -> Tensor:
        """The same."""
        shallow = self.SFENet1(channels_last(x))
        return fused(self.GFF, self._results(self.SFENet2(shallow))) + shallow

    def _results(self, x: Tensor) -> Iterator[Tensor]:
        """What each block makes of that of the one before."""
        for block in self.RDBs:
            x = block(x)
            yield x


class RDN(RDNEncoder, Network):
    """RDN (Sec. 3.1); without mean colour and in 0..1, as its ports to PyTorch have it."""

    config: RDNConfig

    def __init__(self, config: RDNConfig) -> None:
        """Build it with random weights."""
        super().__init__(config)
        self.config = config
        self.reach, self.exact = tiles_reach(5 + config.blocks * config.convs)
        last = nn.Conv2d(config.dim, 3, 3, padding=1)
        self.UPNet = nn.Sequential(*upsampler(config.dim, config.scale), last)

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`; measured: the encoder's, or around the last shuffle."""
        last = in_one_piece(6 + self.dim + upsampler_numbers(self.dim, self.config.scale), height, width)
        return max(super().cost(height, width, rows, number), last)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures, as `Network` says."""
        return self.UPNet(self.features(lr))
