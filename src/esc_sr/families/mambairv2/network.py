"""MambaIRv2-light (Guo et al., CVPR 2025); names as in its checkpoints."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.contract import Cost, in_one_piece
from esc_sr.families.parts.bands import in_bands
from esc_sr.families.parts.categories import put_back, sorted_by
from esc_sr.families.parts.norms import LayerNorm
from esc_sr.families.parts.scan import Scans, scan_macs
from esc_sr.families.parts.shell import Blocks, Shell, ShellConfig, convolved
from esc_sr.families.parts.windows import ShiftedAttention
from esc_sr.network.padding import mirror_to_multiple


@dataclass(frozen=True)
class MambaIRv2Config(ShellConfig):
    """Sizes of a MambaIRv2; the defaults are MambaIRv2-light's.

    Attributes:
        heads: Of self-attention.
        window: Side of its windows, px.
        expanded: Channels of the sequences.
        state: Numbers of the state for each of them.
        rank: Numbers that the steps of all are made of.
        tokens: Kinds of pixels, each with a prompt.
        inner: Numbers that prompts are made of.
        hidden: Channels inside the feed-forward networks, even.
        kernel: Side of the convolutions in these, px, odd.
    """

    dim: int = 48
    depths: tuple[int, ...] = (5, 5, 5, 5)
    heads: int = 4
    window: int = 16
    expanded: int = 48
    state: int = 8
    rank: int = 3
    tokens: int = 64
    inner: int = 32
    hidden: int = 48
    kernel: int = 5

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        super().__post_init__()
        sizes = self.heads, self.window, self.expanded, self.state, self.rank, self.tokens, self.inner
        if min(*sizes, self.kernel) < 1 or self.dim < 3 or self.dim % self.heads:
            raise ValueError(f"{self.dim} channels, a multiple of the heads, and others from 1: {self}")
        if self.hidden < 2 or self.hidden % 2 or self.kernel % 2 != 1:
            raise ValueError(f"{self.hidden} channels in MLPs, kernels of {self.kernel}")


class DepthwiseGate(nn.Module):
    """One half of the channels times what a depthwise convolution makes of the other, normalised."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.norm = LayerNorm(dim)
        self.conv = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, 2 C) to (B, H, W, C)."""
        x, gate = x.chunk(2, -1)
        return x * convolved(self.conv, self.norm(gate))


class GatedMLP(nn.Module):
    """Two linear layers, with GELU and a gate between them."""

    def __init__(self, dim: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.fc1 = nn.Linear(dim, hidden)
        self.sg = DepthwiseGate(hidden // 2, kernel)
        self.fc2 = nn.Linear(hidden // 2, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        return self.fc2(self.sg(F.gelu(self.fc1(x))))


class AttentiveScan(nn.Module):
    """ASSM: a scan over the pixels, kind by kind, that is told their kinds by prompts (Sec. 3.2).

    The kind of a pixel is the likeliest that its route gives; with noise (Gumbel's), one drawn by likelihood.

    Deviation: the published network always draws, so that no two of its results are the same; here it does so
    on request (`MambaIRv2.noise_seed`), and the sort is stable.

    Attributes:
        noise: Draws kinds; None while the likeliest are taken.
    """

    def __init__(self, config: MambaIRv2Config) -> None:
        super().__init__()
        dim, inner = config.dim, config.expanded
        self.in_proj = nn.Sequential(nn.Conv2d(dim, inner, 1))
        self.CPE = nn.Sequential(nn.Conv2d(inner, inner, 3, padding=1, groups=inner))
        self.route = nn.Sequential(
            nn.Linear(dim, dim // 3), nn.GELU(), nn.Linear(dim // 3, config.tokens), nn.LogSoftmax(-1)
        )
        self.embeddingB = nn.Embedding(config.tokens, config.inner)
        nn.init.uniform_(self.embeddingB.weight, -1 / config.tokens, 1 / config.tokens)
        self.selectiveScan = Scans(1, inner, config.state, config.rank)
        self.out_norm = LayerNorm(inner)
        self.out_proj = nn.Linear(inner, dim)
        self.noise: torch.Generator | None = None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """A map (B, H, W, C) and what prompts are made of (inner, state) to a map of the same shape."""
        kinds = self._kinds(x)  # (B, H, W, tokens)
        tokens = self.embeddingB(torch.arange(kinds.shape[3], device=x.device))
        prompt = (kinds @ (tokens @ embedding)).flatten(1, 2)
        order = sorted_by(kinds.argmax(-1))
        del kinds
        u = in_bands(self._projected, x, halo=1).flatten(1, 2)
        u = u.take_along_dim(order[..., None], 1).transpose(1, 2)
        y = self.selectiveScan.scan(u, 0, prompt.transpose(1, 2)).transpose(
            1, 2
        )  # prompts are not sorted, as released
        del u, prompt
        y = put_back(y, order).unflatten(1, x.shape[1:3])
        return in_bands(lambda band, _: self.out_proj(self.out_norm(band)), y)

    def _projected(self, x: Tensor, _last: bool) -> Tensor:
        """A map (B, H, W, C) to what is scanned of it (B, H, W, expanded)."""
        x = convolved(self.in_proj, x)
        return x * convolved(self.CPE, x).sigmoid()

    def _kinds(self, x: Tensor) -> Tensor:
        """Of which kind each pixel is, as 1 among 0; gradients are those of the likelihoods."""
        noise = self.noise

        def chosen(band: Tensor, _: bool) -> Tensor:
            scores = self.route(band)
            if noise is not None:  # the same for each picture
                drawn = torch.empty(scores.shape[1:3].numel(), scores.shape[3], device=x.device)
                drawn = drawn.exponential_(generator=noise).log().view(scores.shape[1:])
                scores = scores - drawn.to(scores.dtype)
            kinds = torch.zeros_like(scores).scatter_(-1, scores.argmax(-1, keepdim=True), 1)
            likelihoods = scores.softmax(-1)
            learns = likelihoods.requires_grad or torch.jit._trace.is_tracing()
            return kinds + likelihoods - likelihoods.detach() if learns else kinds

        return chosen(x, True) if noise is not None else in_bands(chosen, x)


class ScanLayer(nn.Module):
    """Self-attention in windows, then a scan, each with a gated MLP behind and a skip (Sec. 3.3)."""

    def __init__(self, config: MambaIRv2Config, shift: int) -> None:
        super().__init__()
        dim, self.inner = config.dim, config.inner
        self.norm1, self.norm2, self.norm3, self.norm4 = (LayerNorm(dim) for _ in range(4))
        self.scale1, self.scale2 = (nn.Parameter(torch.full((dim,), 1e-4)) for _ in range(2))
        self.wqkv = nn.Linear(dim, 3 * dim)
        self.win_mhsa = ShiftedAttention(dim, config.window, config.heads, shift)
        self.assm = AttentiveScan(config)
        self.convffn1 = GatedMLP(dim, config.hidden, config.kernel)
        self.convffn2 = GatedMLP(dim, config.hidden, config.kernel)
        self.embeddingA = nn.Embedding(config.inner, config.state)
        nn.init.uniform_(self.embeddingA.weight, -1 / config.inner, 1 / config.inner)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C), whole windows, to the same shape."""
        y = x + self.win_mhsa(x, lambda band: self.wqkv(self.norm1(band)))
        y = torch.addcmul(self._fed(y, self.norm2, self.convffn1), x, self.scale1)
        embedding = self.embeddingA(torch.arange(self.inner, device=x.device))
        x = y + self.assm(self.norm3(y), embedding)
        return torch.addcmul(self._fed(x, self.norm4, self.convffn2), y, self.scale2)

    @staticmethod
    def _fed(x: Tensor, norm: nn.Module, mlp: GatedMLP) -> Tensor:
        """The map, and what an MLP makes of it, normalised."""
        return in_bands(lambda band, _: band + mlp(norm(band)), x, halo=mlp.reach)


class MambaIRv2(Shell):
    """MambaIRv2-light (Sec. 3.1).

    Its scans see the whole picture, so that tiles are approximate.

    Attributes:
        noise_seed: Seed of the noise with which the published network chooses the kinds of pixels, from which
            each forward begins anew, one at a time; None for no noise.
    """

    config: MambaIRv2Config
    reach = 24
    has_graphs = False
    noise_seed: int | None = None

    def __init__(self, config: MambaIRv2Config) -> None:
        """Build it with random weights."""
        self.window = self.whole = config.window

        def blocks(group: int) -> nn.Module:
            shifts = (number % 2 * (config.window // 2) for number in range(config.depths[group]))
            return Blocks((ScanLayer(config, shift) for shift in shifts), "layers")

        super().__init__(config, blocks)

    def padded(self, lr: Tensor) -> Tensor:
        """As `Shell.padded`."""
        return mirror_to_multiple(lr, self.whole)

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`; measured: 643 numbers, around the scan of the published sizes."""
        config = self.config
        height, width = (math.ceil(side / self.whole) * self.whole for side in (height, width))
        alive = 9 * config.expanded + 4 * (config.dim + config.state)
        scans = sum(config.depths) * scan_macs(height * width, config.expanded, config.state)
        return in_one_piece(alive, height, width)._replace(macs={"scan": scans})

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures, as `Network` says."""
        if self.noise_seed is None:
            return super().forward(lr)
        noise = torch.Generator(lr.device).manual_seed(self.noise_seed)
        scans = [layer for layer in self.modules() if isinstance(layer, AttentiveScan)]
        for scan in scans:
            scan.noise = noise
        try:
            return super().forward(lr)
        finally:
            for scan in scans:
                scan.noise = None
