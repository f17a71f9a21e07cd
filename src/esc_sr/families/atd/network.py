"""ATD, with an adaptive token dictionary (Zhang et al., CVPR 2024); names as in its checkpoints."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.contract import Cost
from esc_sr.families.parts.bands import in_bands, in_bands_at_most
from esc_sr.families.parts.categories import put_back, sorted_by
from esc_sr.families.parts.feed_forward import DepthwiseFFN
from esc_sr.families.parts.norms import LayerNorm
from esc_sr.families.parts.shell import Shell, ShellBody, ShellConfig, ShellEncoder
from esc_sr.families.parts.windows import ShiftedAttention, attend_biased
from esc_sr.network.attention import SelfAttention
from esc_sr.network.padding import mirror_to_multiple


@dataclass(frozen=True)
class ATDConfig(ShellConfig):
    """Sizes of an ATD; the defaults are ATD-light's.

    Attributes:
        heads: Of self-attention in windows and in categories.
        window: Side of the windows, px.
        category: Pixels of a category that see each other.
        tokens: In the dictionary of a group of layers.
        reduced: Channels of queries to the dictionary and of its keys.
        hidden: Channels inside the feed-forward networks.
        kernel: Side of the convolutions in these, px, odd.
    """

    dim: int = 48
    heads: int = 4
    window: int = 16
    category: int = 128
    tokens: int = 64
    reduced: int = 8
    hidden: int = 48
    kernel: int = 7

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        super().__post_init__()
        sizes = self.heads, self.window, self.category, self.tokens, self.reduced, self.hidden, self.kernel
        if min(sizes) < 1 or self.dim % self.heads or self.kernel % 2 != 1:
            raise ValueError(f"{self.dim} channels, a multiple of the heads, and others from 1: {self}")


class TokenAttention(nn.Module):
    """ATD-CA: pixels attend to the tokens of a dictionary, by cosines (Sec. 3.2)."""

    def __init__(self, dim: int, tokens: int, reduced: int) -> None:
        super().__init__()
        self.wq, self.wk, self.wv = nn.Linear(dim, reduced), nn.Linear(dim, reduced), nn.Linear(dim, dim)
        self.scale = nn.Parameter(torch.full((tokens,), 0.5))

    def similarity(self, x: Tensor, tokens: Tensor) -> Tensor:
        """How much of each token (B, M, C) each pixel (B, H, W, C) takes: (B, H, W, M)."""
        k = F.normalize(self.wk(tokens), dim=-1).transpose(1, 2)  # (B, reduced, M)
        scale = 1 + self.scale.clamp(0, 1) * math.log(k.shape[2])

        def compared(band: Tensor, _: bool) -> Tensor:
            q = F.normalize(self.wq(band), dim=-1)
            cosines = (q.flatten(1, 2) @ k).unflatten(1, q.shape[1:3])
            return (cosines * scale).softmax(-1)

        return in_bands(compared, x)

    def forward(self, similarity: Tensor, tokens: Tensor) -> Tensor:
        """Similarities and tokens to what is taken of these (B, H, W, C)."""
        return (similarity.flatten(1, 2) @ self.wv(tokens)).unflatten(1, similarity.shape[1:3])


class CategoryAttention(SelfAttention):
    """AC-MSA: pixels that are most like the same token attend to each other, wherever they are (Sec. 3.3).

    Pixels are sorted by that token and cut into groups of equally many.

    Deviation: the sort is stable.
    """

    def __init__(self, config: ATDConfig) -> None:
        super().__init__()
        self.heads, self.category = config.heads, config.category
        self.logit_scale = nn.Parameter(torch.full((1, 1), math.log(10)))
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, qkv: Tensor, similarity: Tensor) -> Tensor:
        """Queries, keys and values (B, H, W, 3 C) and similarities (B, H, W, M) to (B, H, W, C)."""
        pixels = qkv.flatten(1, 2)
        order = sorted_by(similarity.argmax(-1))  # (B, L)
        length = order.shape[1]
        group = min(length, self.category)
        more = -length % group  # the last group is filled up with its own, from the end backwards
        groups = torch.cat((order, order[:, length - more :].flip(1)), 1).unflatten(1, (-1, group))
        y = in_bands(lambda band, _: self._attend(pixels, band[..., 0]), groups[..., None])
        return put_back(y.flatten(1, 2)[:, :length], order).unflatten(1, qkv.shape[1:3])

    def _attend(self, qkv: Tensor, groups: Tensor) -> Tensor:
        """Attend within groups (B, groups, n) of pixels (B, L, 3 C): (B, groups, n, C)."""
        x = qkv.take_along_dim(groups.flatten(1)[..., None], 1).view(*groups.shape, 3, self.heads, -1)
        q, k, v = x.flatten(0, 1).permute(2, 0, 3, 1, 4)  # each (B groups, heads, n, d)
        q = q * (self.logit_scale.clamp(max=math.log(100)).exp() * q.shape[3] ** 0.5)
        y = attend_biased(q, k, v, None, self.backend)
        return self.proj(y.transpose(1, 2).reshape(*groups.shape, -1))


class TokenLayer(nn.Module):
    """Three kinds of attention at once, a feed-forward network, and a dictionary refined by the result."""

    def __init__(self, config: ATDConfig, shift: int, last: bool) -> None:
        super().__init__()
        dim = config.dim
        self.norm1, self.norm2 = LayerNorm(dim), LayerNorm(dim)
        self.wqkv = nn.Linear(dim, 3 * dim)
        self.attn_win = ShiftedAttention(dim, config.window, config.heads, shift)
        self.attn_atd = TokenAttention(dim, config.tokens, config.reduced)
        self.attn_aca = CategoryAttention(config)
        self.convffn = DepthwiseFFN(dim, config.hidden, config.kernel)
        self.last = last
        if not last:
            self.norm3 = nn.InstanceNorm1d(config.tokens, affine=True)
            self.sigma = nn.Parameter(torch.zeros(config.tokens, 1))

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """A map (B, H, W, C), whole windows, and tokens (B, M, C) to the same."""
        y = self.norm1(x)
        similarity = self.attn_atd.similarity(y, tokens)
        qkv = self.wqkv(y)
        del y
        y = self.attn_aca(qkv, similarity)
        y = y + self.attn_win(qkv, lambda band: band)
        del qkv
        y += self.attn_atd(similarity, tokens)
        y += x
        reach = self.convffn.reach
        y = in_bands(lambda band, _: band + self.convffn(self.norm2(band)), y, halo=reach)
        return y, tokens if self.last else self._refined(tokens, similarity, y)

    def _refined(self, tokens: Tensor, similarity: Tensor, x: Tensor) -> Tensor:
        """Tokens moved towards the pixels that are most like them, by the similarities of all (Sec. 3.2)."""
        weights = self.norm3(similarity.flatten(1, 2).transpose(1, 2)).softmax(-1)  # (B, M, L)
        kept = self.sigma.sigmoid()
        return kept * tokens + (1 - kept) * (weights @ x.flatten(1, 2))


class DictionaryGroup(nn.Module):
    """Layers in a row, with a dictionary of tokens that goes from one to the next."""

    def __init__(self, config: ATDConfig, depth: int) -> None:
        super().__init__()
        self.td = nn.Parameter(torch.randn(config.tokens, config.dim))
        shifts = [number % 2 * (config.window // 2) for number in range(depth)]
        self.layers = nn.ModuleList(
            TokenLayer(config, shift, number == depth - 1) for number, shift in enumerate(shifts)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C), whole windows, to the same shape."""
        tokens = self.td.repeat(len(x), 1, 1)
        for layer in self.layers:
            x, tokens = layer(x, tokens)
        return x


class ATDBody(ShellBody):
    """ATD up to its features.

    Its dictionaries and categories see the whole picture, so that tiles are approximate.
    """

    reach = 24

    def __init__(self, config: ATDConfig) -> None:
        """Build it with random weights."""
        self.window = self.whole = config.window
        self.tokens = config.tokens
        super().__init__(config, lambda group: DictionaryGroup(config, config.depths[group]))

    def padded(self, x: Tensor) -> Tensor:
        """As `ShellBody.padded`."""
        return mirror_to_multiple(x, self.whole)

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`; measured: 469, around attention in windows, or where tokens are refined."""
        dim, tokens = self.dim, self.tokens
        return in_bands_at_most(max(8 * dim + tokens, 4 * (dim + tokens)) + 24, 12 * dim, height, width)


class ATD(ATDBody, Shell):
    """ATD."""

    config: ATDConfig


class ATDEncoder(ATDBody, ShellEncoder):
    """ATD as the encoder of LTE."""
