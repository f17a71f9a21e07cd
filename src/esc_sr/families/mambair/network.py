"""MambaIR-light (Guo et al., ECCV 2024); names as in its checkpoints."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.contract import Cost, in_one_piece
from esc_sr.families.parts.norms import LayerNorm
from esc_sr.families.parts.residual import PooledAttention
from esc_sr.families.parts.scan import Scans, scan_macs
from esc_sr.families.parts.shell import Blocks, Shell, ShellConfig, convolved


@dataclass(frozen=True)
class MambaIRConfig(ShellConfig):
    """Sizes of a MambaIR; the defaults are MambaIR-light's.

    Attributes:
        expanded: Channels of the sequences.
        state: Numbers of the state for each of them.
        rank: Numbers that the steps of all are made of.
        narrow: Channels between the convolutions of a block.
        squeezed: Numbers between means of channels and their weights.
    """

    expanded: int = 72
    state: int = 10
    rank: int = 4
    narrow: int = 30
    squeezed: int = 2

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        super().__post_init__()
        if min(self.expanded, self.state, self.rank, self.narrow, self.squeezed) < 1:
            raise ValueError(f"all sizes must be at least 1: {self}")


WAYS = 4
"""In which a map is read as a sequence: by rows, by columns, and both backwards."""


class SS2D(Scans):
    """Scans along four ways through a map, gated (Sec. 3.3)."""

    def __init__(self, config: MambaIRConfig) -> None:
        dim, inner = config.dim, config.expanded
        super().__init__(WAYS, inner, config.state, config.rank)
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.out_norm = LayerNorm(inner)
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        x, gate = self.in_proj(x).chunk(2, -1)
        y = self._scanned(F.silu(convolved(self.conv2d, x)))
        return self.out_proj(self.out_norm(y) * F.silu(gate))

    def _scanned(self, x: Tensor) -> Tensor:
        """The sum of the scans; (B, H, W, C) to the same shape."""
        total: Tensor | None = None
        for way in range(WAYS):
            seen = x.transpose(1, 2) if way % 2 else x
            u = seen.flatten(1, 2).transpose(1, 2)
            y = self.scan(u.flip(2), way).flip(2) if way >= 2 else self.scan(u, way)
            y = y.transpose(1, 2).unflatten(1, seen.shape[1:3])
            y = y.transpose(1, 2) if way % 2 else y
            total = y if total is None else total + y
        assert total is not None
        return total


class ChannelBlock(nn.Module):
    """CAB of the light network: pointwise and depthwise convolutions, and weights of channels (Sec. 3.2)."""

    def __init__(self, dim: int, narrow: int, squeezed: int) -> None:
        super().__init__()
        self.cab = nn.Sequential(
            nn.Conv2d(dim, narrow, 1),
            nn.Conv2d(narrow, narrow, 3, padding=1, groups=narrow),
            nn.GELU(),
            nn.Conv2d(narrow, dim, 1),
            nn.Conv2d(dim, dim, 3, padding=2, dilation=2, groups=dim),
            PooledAttention(dim, squeezed),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return self.cab(x)


class ScanBlock(nn.Module):
    """RSSB: scans and convolutions, with skips that are weighed channel by channel (Sec. 3.2)."""

    def __init__(self, config: MambaIRConfig) -> None:
        super().__init__()
        dim = config.dim
        self.ln_1, self.ln_2 = LayerNorm(dim), LayerNorm(dim)
        self.skip_scale, self.skip_scale2 = (nn.Parameter(torch.ones(dim)) for _ in range(2))
        self.self_attention = SS2D(config)
        self.conv_blk = ChannelBlock(dim, config.narrow, config.squeezed)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        x = torch.addcmul(self.self_attention(self.ln_1(x)), x, self.skip_scale)
        return torch.addcmul(convolved(self.conv_blk, self.ln_2(x)), x, self.skip_scale2)


class MambaIR(Shell):
    """MambaIR-light (Sec. 3.1).

    Its scans see the whole picture, so that tiles are approximate.

    Deviation: no block is left out at random in training (stochastic depth, 0.1 in the authors' code).
    """

    config: MambaIRConfig
    reach = 32
    has_graphs = False

    def __init__(self, config: MambaIRConfig) -> None:
        """Build it with random weights."""
        super().__init__(config, lambda group: Blocks(ScanBlock(config) for _ in range(config.depths[group])))

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`; measured: 13 numbers for each channel of a sequence, 6 for each of its state."""
        config, pixels = self.config, height * width
        alive = max(13 * config.expanded + 3 * config.dim + 6 * config.state, 9 * config.scale**2)
        scans = sum(config.depths) * scan_macs(pixels, WAYS * config.expanded, config.state)
        return in_one_piece(alive, height, width)._replace(macs={"scan": scans})
