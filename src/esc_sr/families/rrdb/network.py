"""RRDBNet, the network of ESRGAN (Wang et al., ECCVW 2018); names as in Real-ESRGAN's files."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.contract import Config, Cost, Network, in_one_piece
from esc_sr.families.parts.reach import tiles_reach
from esc_sr.families.parts.upsampling import enlarge_nearest
from esc_sr.network.padding import channels_last, pad_to_multiple


@dataclass(frozen=True)
class RRDBConfig(Config):
    """Sizes of an RRDBNet; the defaults are those of ESRGAN and of Real-ESRGAN x4plus.

    Attributes:
        scale: Enlargement; with `unshuffle`, a power of 2.
        dim: Channels of the features.
        growth: Channels that each convolution of a block adds.
        blocks: Blocks of three dense blocks.
        unshuffle: Side of the pixels that become one of as many more channels before all else.
    """

    scale: int = 4
    dim: int = 64
    growth: int = 32
    blocks: int = 23
    unshuffle: int = 1

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        if min(self.scale, self.dim, self.growth, self.blocks, self.unshuffle) < 1:
            raise ValueError(f"all sizes must be at least 1: {self}")
        factor = self.scale * self.unshuffle
        if factor & (factor - 1):
            raise ValueError(f"scale {self.scale} after {self.unshuffle}x{self.unshuffle} is no power of 2")

    @property
    def doublings(self) -> int:
        """How often the features become twice as large."""
        return (self.scale * self.unshuffle).bit_length() - 1


SLOPE = 0.2
"""Of leaky ReLU."""

SHARE = 0.2
"""Of what a block makes, added to its input."""


class ScaledDenseBlock(nn.Module):
    """Five convolutions, each of which sees the input and what all before it have made (Sec. 3.1)."""

    def __init__(self, dim: int, growth: int) -> None:
        super().__init__()
        for number in range(5):
            out = growth if number < 4 else dim
            self.add_module(f"conv{number + 1}", nn.Conv2d(dim + number * growth, out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to the same shape."""
        seen = x
        for number in range(1, 5):
            made = F.leaky_relu(self.get_submodule(f"conv{number}")(seen), SLOPE)
            seen = torch.cat((seen, made), 1)
        return torch.add(x, self.get_submodule("conv5")(seen), alpha=SHARE)


class RRDB(nn.Module):
    """Three dense blocks and a skip (Sec. 3.1)."""

    def __init__(self, dim: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (ScaledDenseBlock(dim, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to the same shape."""
        return torch.add(x, self.rdb3(self.rdb2(self.rdb1(x))), alpha=SHARE)


class RRDBNet(Network):
    """RRDBNet, enlarged by nearest neighbours; tiles of more than some blocks are approximate.

    Deviation: sides that are no multiples of `unshuffle` are reflected to the right and below.
    """

    config: RRDBConfig
    inner = ("body", "conv_body")

    def __init__(self, config: RRDBConfig) -> None:
        """Build it with random weights."""
        super().__init__()
        self.config = config
        self.reach, self.exact = tiles_reach(config.unshuffle * (15 * config.blocks + 4))
        self.blend = 2 * config.unshuffle if self.exact else 16
        dim = config.dim
        self.conv_first = nn.Conv2d(3 * config.unshuffle**2, dim, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(dim, config.growth) for _ in range(config.blocks)))
        self.conv_body = nn.Conv2d(dim, dim, 3, padding=1)
        for number in range(config.doublings):
            self.add_module(f"conv_up{number + 1}", nn.Conv2d(dim, dim, 3, padding=1))
        self.conv_hr = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv_last = nn.Conv2d(dim, 3, 3, padding=1)

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`; measured: around the last concatenation, or two maps of the enlarged features."""
        config, small = self.config, self.config.unshuffle**2
        dense = (4 * config.dim + 8 * config.growth) / small
        large = 2 * config.dim * config.scale**2 + 5 * config.dim / small
        return in_one_piece(int(6 + max(dense, large)), height, width)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures, as `Network` says."""
        config, (height, width) = self.config, lr.shape[2:]
        x = F.pixel_unshuffle(pad_to_multiple(lr, config.unshuffle), config.unshuffle)
        x = self._features(channels_last(x))
        ups = (self.get_submodule(f"conv_up{number + 1}") for number in range(config.doublings))
        x = enlarge_nearest(x, ups, self.conv_hr, self.conv_last, SLOPE)
        return x[:, :, : config.scale * height, : config.scale * width]

    def _features(self, x: Tensor) -> Tensor:
        """(B, 3 unshuffle^2, H, W) to (B, dim, H, W)."""
        x = self.conv_first(x)
        return x + self.conv_body(self.body(x))
