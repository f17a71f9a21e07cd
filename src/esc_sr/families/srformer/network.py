"""SRFormer (Zhou et al., ICCV 2023); names as in its checkpoints."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esc_sr.families.contract import Cost
from esc_sr.families.parts.bands import in_bands, in_bands_at_most
from esc_sr.families.parts.feed_forward import DepthwiseFFN
from esc_sr.families.parts.norms import LayerNorm
from esc_sr.families.parts.shell import Blocks, Shell, ShellConfig
from esc_sr.families.parts.windows import attend_biased, over_ends, seams
from esc_sr.network.attention import SelfAttention, cut_windows, join_windows, position_bias

FOLD = 2
"""Side of the squares of pixels that become one key and one value."""


@dataclass(frozen=True)
class SRFormerConfig(ShellConfig):
    """Sizes of an SRFormer; the defaults are SRFormer-light's.

    Attributes:
        heads: Of self-attention.
        window: Side of its windows, px, a multiple of 4.
        hidden: Channels inside the feed-forward networks.
    """

    heads: int = 6
    window: int = 16
    hidden: int = 120

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        super().__post_init__()
        if min(self.heads, self.window, self.hidden) < 1 or self.dim % self.heads or self.dim % FOLD**2:
            raise ValueError(f"{self.heads} heads of {self.dim} channels, {self.hidden} in MLPs")
        if self.window % (2 * FOLD):
            raise ValueError(f"windows of {self.window} are no multiples of {2 * FOLD}")


class PermutedAttention(SelfAttention):
    """PSA: keys and values have a quarter of the channels, and 2 x 2 pixels make one of each (Sec. 3.2).

    So windows may be large: there are fewer keys, and each head has as many channels as before.
    """

    def __init__(self, config: SRFormerConfig, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = config.heads, config.window, shift
        offsets = (2 * (config.window // FOLD) - 1) ** 2
        self.relative_position_bias_table = nn.Parameter(torch.empty(offsets, config.heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.q = nn.Linear(config.dim, config.dim)
        self.kv = nn.Linear(config.dim, 2 * config.dim // FOLD**2)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """(B, H, W, C), whole windows, normalised first, to the same shape."""
        bias = self._bias()

        def attended(band: Tensor, last: bool) -> Tensor:
            band = norm(band)
            maps = torch.cat((self.q(band), self.kv(band)), -1).permute(0, 3, 1, 2)
            shifts = self.shift * last, self.shift
            y = over_ends(maps, self.window, shifts, lambda part, shifts: self._attend(part, bias, shifts))
            return self.proj(y.permute(0, 2, 3, 1))

        return in_bands(attended, x, self.window, shift=self.shift)

    def _bias(self) -> Tensor:
        """Of each pixel and each square of pixels of a window, by the squares: (heads, n, m)."""
        side = self.window // FOLD
        table = self.relative_position_bias_table.T.flip(1)  # query minus key here, key minus query there
        bias = position_bias(table, side).view(-1, side, side, side**2)
        return bias.repeat_interleave(FOLD, 1).repeat_interleave(FOLD, 2).flatten(1, 2)

    def _attend(self, maps: Tensor, bias: Tensor, shifts: tuple[int, int]) -> Tensor:
        """Queries and narrow keys and values (B, 3/2 C, H, W), whole windows, to (B, C, H, W)."""
        dim = maps.shape[1] * 2 // 3
        (q,) = cut_windows(maps[:, :dim], self.heads, self.window, parts=1)
        k, v = self._folded(maps[:, dim:])
        if any(shifts):
            bias = bias + seams(self.window, shifts, bias, FOLD)
        return join_windows(attend_biased(q, k, v, bias.to(q.dtype), self.backend), maps, self.window)

    def _folded(self, kv: Tensor) -> Tensor:
        """Keys and values (B, C / 2, H, W) with squares of pixels as channels: (2, windows, heads, m, d)."""
        side, narrow = self.window // FOLD, kv.shape[1] // 2
        down, across = (length // self.window for length in kv.shape[2:])
        # (B, two, c, down, square, in square, across, square, in square) to
        # (two, B, down, across, square, square, in square, in square, c)
        kv = kv.view(-1, 2, narrow, down, side, FOLD, across, side, FOLD)
        kv = kv.permute(1, 0, 3, 6, 4, 7, 5, 8, 2)
        return kv.reshape(2, -1, side**2, self.heads, FOLD**2 * narrow // self.heads).transpose(2, 3)


class PermutedBlock(nn.Module):
    """PAB: self-attention and a feed-forward network, each on what is normalised, and added to it."""

    def __init__(self, config: SRFormerConfig, shift: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm(config.dim), LayerNorm(config.dim)
        self.attn = PermutedAttention(config, shift)
        self.mlp = DepthwiseFFN(config.dim, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C), whole windows, to the same shape."""
        x = x + self.attn(x, self.norm1)
        return in_bands(lambda band, _: band + self.mlp(self.norm2(band)), x, halo=self.mlp.reach)


class SRFormer(Shell):
    """SRFormer.

    Deviation: no block is left out at random in training (stochastic depth, 0.1 in the authors' code).
    """

    config: SRFormerConfig
    reach = 24

    def __init__(self, config: SRFormerConfig) -> None:
        """Build it with random weights."""
        self.window = self.whole = config.window

        def blocks(group: int) -> nn.Module:
            shifts = (number % 2 * (config.window // 2) for number in range(config.depths[group]))
            return Blocks(PermutedBlock(config, shift) for shift in shifts)

        super().__init__(config, blocks)

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`; measured: 5.1 numbers for each channel, of whole windows, and a band."""
        return in_bands_at_most(6 * self.config.dim, 18 * self.config.dim, height, width, self.window)
