"""What SwinIR and its followers share: groups of blocks between a first and a last convolution.

Maps are (B, H, W, C) in blocks and (B, C, H, W) in convolutions, of the same memory: channels last.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from esc_sr.families.contract import Config, Encoder, Network, Traits
from esc_sr.families.family import Shapes
from esc_sr.families.parts.mean import MEAN, require_rgb
from esc_sr.families.parts.norms import LayerNorm
from esc_sr.families.parts.upsampling import DirectShuffle
from esc_sr.families.published import PublishedFamily
from esc_sr.network.padding import channels_last, pad_to_multiple
from esc_sr.network.rows import Bands


@dataclass(frozen=True)
class ShellConfig(Config):
    """Sizes that all of them have.

    Attributes:
        scale: Enlargement, a whole number from 1.
        dim: Channels of the features.
        depths: Blocks of each group.
    """

    scale: int = 2
    dim: int = 60
    depths: tuple[int, ...] = (6, 6, 6, 6)

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        if min(self.scale, self.dim, *self.depths, 1) < 1 or not self.depths:
            raise ValueError(f"scale {self.scale}, {self.dim} channels and groups of {self.depths} blocks")

    @classmethod
    def of_sizes(cls, sizes: Mapping[str, Any]) -> Self:
        """As `Config.of_sizes`."""
        return cls(**{**sizes, "depths": tuple(sizes["depths"])})


class Blocks(nn.Module):
    """Blocks in a row; maps (B, H, W, C)."""

    def __init__(self, blocks: Iterable[nn.Module], name: str = "blocks") -> None:
        """Take the blocks, and what files call their list."""
        super().__init__()
        self.add_module(name, nn.ModuleList(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        for blocks in self.children():
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                x = block(x)
        return x


class Group(nn.Module):
    """Blocks and a convolution, whose input is added to their result."""

    def __init__(self, blocks: nn.Module, conv: nn.Module) -> None:
        super().__init__()
        self.residual_group = blocks
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        return x + convolved(self.conv, self.residual_group(x))


class ShellBody(Traits):
    """SwinIR's way from a picture to features (Liang et al., ICCVW 2021); others change the blocks.

    Attributes:
        whole: The picture is reflected below and on the right to multiples of so many px.
    """

    whole: int = 1

    def __init__(
        self,
        config: ShellConfig,
        blocks: Callable[[int], nn.Module],
        conv: Callable[[int], nn.Module] | None = None,
    ) -> None:
        """Build it with random weights.

        Args:
            config: Its sizes.
            blocks: Makes the blocks of a group, by its number, from 0.
            conv: Makes the convolution behind the blocks of a group, and that behind all groups, of so many
                channels; by default one of 3x3.
        """
        super().__init__()
        conv, dim = conv or conv3x3, config.dim
        self.dim = dim
        self.inner = ("layers", "conv_after_body")
        self.conv_first = nn.Conv2d(3, dim, 3, padding=1)
        self.patch_embed = nn.ModuleDict({"norm": LayerNorm(dim)})
        self.layers = nn.ModuleList(Group(blocks(i), conv(dim)) for i in range(len(config.depths)))
        self.norm = LayerNorm(dim)
        self.conv_after_body = conv(dim)
        self.apply(_initialise)

    def padded(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) with what is seen beyond their lower and right edge."""
        return pad_to_multiple(x, self.whole)

    def features(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), padded, to features (B, dim, H, W)."""
        x = self.conv_first(channels_last(x))
        y = self.patch_embed["norm"](x.permute(0, 2, 3, 1))
        for group in self.layers:
            y = group(y)
        return x + self.conv_after_body(self.norm(y).permute(0, 3, 1, 2))


class Shell(ShellBody, Network):
    """The whole of it, to an enlarged picture."""

    config: ShellConfig
    mean: Tensor

    def __init__(
        self,
        config: ShellConfig,
        blocks: Callable[[int], nn.Module],
        conv: Callable[[int], nn.Module] | None = None,
    ) -> None:
        """As `ShellBody`."""
        super().__init__(config, blocks, conv)
        self.config = config
        self.build_upsampler()
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)

    def build_upsampler(self) -> None:
        """Make the layers of `upsampled`."""
        self.upsample = DirectShuffle(self.config.dim, self.config.scale)

    def upsampled(self, x: Tensor) -> Tensor:
        """Features (B, dim, H, W) to pictures (B, 3, scale H, scale W)."""
        return self.upsample(x)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures, as `Network` says."""
        require_rgb(lr)
        height, width = (self.config.scale * side for side in lr.shape[2:])
        x = self.features(self.padded(lr) - self.mean)
        return self.upsampled(x)[:, :, :height, :width] + self.mean.to(x.dtype)


class ShellEncoder(ShellBody, Encoder):
    """What LTE needs of it, for pictures whose mean colour is left in.

    Its files have a last convolution that nothing depends on.
    """

    def __init__(
        self,
        config: ShellConfig,
        blocks: Callable[[int], nn.Module],
        conv: Callable[[int], nn.Module] | None = None,
    ) -> None:
        """As `ShellBody`."""
        super().__init__(config, blocks, conv)
        self.conv_last = conv3x3(config.dim).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) to features (B, dim, H, W)."""
        return self.features(self.padded(x))[:, :, : x.shape[2], : x.shape[3]]

    def encode(self, x: Tensor, bands: Bands | None) -> Tensor:
        """As `Encoder.encode`."""
        return self(x)


def conv3x3(dim: int) -> nn.Module:
    """A 3x3 convolution that keeps the channels."""
    return nn.Conv2d(dim, dim, 3, padding=1)


def convolved(conv: nn.Module, x: Tensor) -> Tensor:
    """Convolve a map (B, H, W, C)."""
    y: Tensor = conv(x.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)


def _initialise(layer: nn.Module) -> None:
    """As SwinIR does: linear layers from a normal of 0.02, without bias."""
    if isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class ShellFamily(PublishedFamily):
    """A family of such networks.

    Attributes:
        block: A pattern of the beginning of names in blocks, with the numbers of group and block.
        least: Tensors of a block, at least.
    """

    block = r"layers\.(\d+)\.residual_group\.blocks\.(\d+)\."
    computed = r".*(attn_mask|relative_position_index)"
    least = 10
    first = "conv_first"
    outer = ("scale",)
    mean = MEAN

    def describe(self, config: Any) -> str:
        """The preset's name, or sizes."""
        groups = "-".join(map(str, config.depths))
        return self.named(config, f"{config.dim} channels, {groups} blocks")

    def shuffled(self, config: Any) -> str | None:
        """Its only upsampling layer."""
        return "upsample.0"

    def depths(self, shapes: Shapes) -> tuple[int, ...]:
        """Blocks of each group.

        Raises:
            ValueError: They are not numbered from 0, or most of what is in them is missing.
        """
        groups: dict[int, set[int]] = {}
        found = 0
        for name in shapes:
            if match := re.match(self.block, name):
                groups.setdefault(int(match[1]), set()).add(int(match[2]))
                found += 1
        depths = tuple(len(groups[number]) for number in sorted(groups))
        expected = {number: set(range(depth)) for number, depth in enumerate(depths)}
        if groups != expected:
            raise ValueError("of its groups and blocks some are missing")
        if found < self.least * sum(depths):
            raise ValueError(f"{sum(depths)} blocks have no more than {found} tensors")
        return depths


def window_of(table: tuple[int, ...]) -> int:
    """The side of the windows that a table of biases, (2 window - 1)^2 and more, is for.

    Raises:
        ValueError: It is for none.
    """
    window = (round(table[0] ** 0.5) + 1) // 2
    if table[0] != (2 * window - 1) ** 2:
        raise ValueError(f"{table[0]} position biases are for no window")
    return window
