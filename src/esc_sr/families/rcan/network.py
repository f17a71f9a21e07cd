"""RCAN, the residual channel attention network (Zhang et al., ECCV 2018); names as in its checkpoints."""

from dataclasses import dataclass

from torch import Tensor, nn

from esc_sr.families.contract import Config, Cost, Network, in_one_piece
from esc_sr.families.parts.mean import MeanShift, require_rgb
from esc_sr.families.parts.residual import ChannelAttention, Residual
from esc_sr.families.parts.upsampling import stages, upsampler, upsampler_numbers
from esc_sr.network.padding import channels_last


@dataclass(frozen=True)
class RCANConfig(Config):
    """Sizes of an RCAN; the defaults are the published ones.

    Attributes:
        scale: Enlargement: 1, 2, 3, 4 or 8.
        dim: Channels of the features.
        groups: Residual groups.
        blocks: Channel attention blocks in each of them.
        inner: Channels that channel attention goes down to.
    """

    scale: int = 2
    dim: int = 64
    groups: int = 10
    blocks: int = 20
    inner: int = 4

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        stages(self.scale)
        if min(self.dim, self.groups, self.blocks, self.inner) < 1:
            raise ValueError(
                f"{self.dim} and {self.inner} channels, {self.groups} groups and {self.blocks} blocks "
                "must be at least 1"
            )


WHITE = 255.0
"""The network's weights are for colours in 0..255."""


def _conv(dim: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(dim, out, 3, padding=1)


class RCAN(Network):
    """RCAN (Sec. 3.1): groups of blocks of two convolutions and channel attention, each with its skip.

    Channel attention sees the whole picture, so that tiles are approximate.
    """

    config: RCANConfig
    inner = ("body",)
    reach = 16

    def __init__(self, config: RCANConfig) -> None:
        """Build it with random weights."""
        super().__init__()
        self.config = config
        dim = config.dim
        self.sub_mean, self.add_mean = MeanShift(-1, WHITE), MeanShift(1, WHITE)
        self.head = nn.Sequential(_conv(3, dim))
        groups = (self._group(config) for _ in range(config.groups))
        self.body = nn.Sequential(*groups, _conv(dim, dim))
        self.tail = nn.Sequential(nn.Sequential(*upsampler(dim, config.scale)), _conv(dim, 3))

    @staticmethod
    def _group(config: RCANConfig) -> Residual:
        """A residual group (Sec. 3.2)."""
        dim = config.dim
        blocks = (
            Residual(_conv(dim, dim), nn.ReLU(), _conv(dim, dim), ChannelAttention(dim, config.inner))
            for _ in range(config.blocks)
        )
        return Residual(*blocks, _conv(dim, dim))

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`; measured: six maps of features, or those around the last shuffle and two."""
        dim, pixels = self.config.dim, height * width
        numbers = 6 + max(6 * dim, upsampler_numbers(dim, self.config.scale) + 2 * dim)
        means = 9 * pixels * (1 + self.config.scale**2)
        return in_one_piece(numbers, height, width)._replace(macs={"conv": means})

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures, as `Network` says."""
        require_rgb(lr)
        x = channels_last(self.sub_mean(lr * WHITE))
        x = self.head(x)
        return self.add_mean(self.tail(x + self.body(x))) / WHITE
