"""The layers of an ESC block (Sec. 3.3, Figure 4, Eq. 3 to 5)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.esc.config import ESCConfig
from esc_sr.families.esc.depthwise import depthwise
from esc_sr.families.esc.kernels import LargeKernel, LargeKernels
from esc_sr.families.parts.norms import LayerNorm2d
from esc_sr.network.attention import (
    Compared,
    SelfAttention,
    attend_windows,
    cut_windows,
    position_bias,
    window_places,
)
from esc_sr.network.padding import pad_to_multiple


class ConvFFN(nn.Module):
    """Feed-forward network with a depthwise 3x3 convolution inside; no residual (Sec. 3.3, Eq. 3)."""

    def __init__(self, dim: int, expansion: float) -> None:
        super().__init__()
        hidden = int(dim * expansion)
        self.expand = nn.Conv2d(dim, hidden, 1)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.project = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W); reaches 1 pixel far."""
        x = F.gelu(self.expand(x))  # (B, hidden, H, W)
        x = x + F.gelu(self.dwconv(x))
        return self.project(x)  # (B, C, H, W)


class WindowAttention(SelfAttention):
    """Multi-head self-attention inside windows that do not overlap (Sec. 3.3, Table 1)."""

    def __init__(self, dim: int, window: int, heads: int) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        table = torch.empty(heads, (2 * window - 1) ** 2)
        self.bias_table = nn.Parameter(nn.init.normal_(table, std=0.001))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W); the picture is reflected up to whole windows."""
        height, width = x.shape[2:]
        qkv = self.qkv(pad_to_multiple(x, self.window))  # (B, 3 C, whole windows)
        y = attend_windows(qkv, self.bias_table, self.window, self.backend)
        return self.out(y[:, :, :height, :width])

    def compared(self, x: Tensor, *others: Any) -> Compared:
        """What `forward` compares for (B, C, H, W)."""
        q, k, _ = cut_windows(self.qkv(pad_to_multiple(x, self.window)), self.heads, self.window)
        places = window_places(self.window, x.device)
        bias = position_bias(self.bias_table, self.window)
        return Compared(q * q.shape[-1] ** -0.5, k, bias, (places, places))


class ConvAttn(nn.Module):
    """Convolutional attention: a shared large kernel and a dynamic kernel on the first channels (Eq. 4).

    Table 3 has it with a large kernel of its own, and without the dynamic one.
    """

    squeeze = 2

    def __init__(self, config: ESCConfig) -> None:
        super().__init__()
        dim, pdim = config.dim, config.pdim
        self.pdim, self.dynamic = pdim, config.dynamic
        self.large_kernel = LargeKernel(pdim, config.kernel) if config.own_kernels else None
        if self.dynamic:
            inside = pdim // self.squeeze
            self.estimator = nn.Sequential(
                nn.Conv2d(pdim, inside, 1), nn.GELU(), nn.Conv2d(inside, 9 * pdim, 1)
            )
            self.reset_estimator()
        self.fuse = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, shared: LargeKernels) -> Tensor:
        """(B, C, H, W) and the network's large kernel to (B, C, H, W)."""
        att, idt = x.tensor_split([self.pdim], 1)  # (B, pdim, H, W), (B, C - pdim, H, W)
        res = self.convolve(att, self.large(shared), self.dynamic_kernel(att))
        return self.fuse(torch.cat((res, idt), 1))  # (B, C, H, W)

    def reset_estimator(self) -> None:
        """Start with a dynamic kernel of zeros, that is with the large kernel alone."""
        for parameter in self.estimator[-1].parameters():
            nn.init.zeros_(parameter)

    def large(self, shared: LargeKernels) -> LargeKernels:
        """The large kernel: the network's, or its own."""
        return shared if self.large_kernel is None else self.large_kernel()

    def dynamic_kernel(self, att: Tensor) -> Tensor | None:
        """Estimate depthwise kernels (B, pdim, 3, 3) from the means of (B, pdim, H, W) (Eq. 4, line 2)."""
        if not self.dynamic:
            return None
        means = att.mean((2, 3), keepdim=True)  # (B, pdim, 1, 1)
        kernel: Tensor = self.estimator(means.to(self.fuse.weight.device))  # (B, 9 pdim, 1, 1)
        return kernel.view(-1, self.pdim, 3, 3)

    def convolve(self, att: Tensor, large: LargeKernels, dynamic: Tensor | None) -> Tensor:
        """Convolve (B, pdim, H, W) with both kernels (Eq. 4, line 3)."""
        (kernel,) = large
        res = F.conv2d(att, kernel, padding=kernel.shape[-1] // 2)
        return res if dynamic is None else depthwise(att, dynamic) + res


class DecomposedConvAttn(ConvAttn):
    """ConvAttn of ESC-FP: the large kernel split into a channel and a spatial factor (Eq. 5)."""

    squeeze = 4

    def reset_estimator(self) -> None:
        """Keep torch's initialisation, as the released ESC-FP does."""

    def convolve(self, att: Tensor, large: LargeKernels, dynamic: Tensor | None) -> Tensor:
        """Convolve (B, pdim, H, W) across channels, then each with dynamic plus large kernel (Eq. 5)."""
        channel, spatial = large
        assert dynamic is not None
        if torch.compiler.is_exporting():  # as of `depthwise`, and the spatial factor is the same always
            mixed, reach = F.conv2d(att, channel), spatial.shape[-1] // 2
            return depthwise(mixed, dynamic) + F.conv2d(mixed, spatial, padding=reach, groups=len(spatial))
        border = (spatial.shape[-1] - dynamic.shape[-1]) // 2
        return depthwise(F.conv2d(att, channel), F.pad(dynamic, (border,) * 4) + spatial[:, 0])


class FedAttention(nn.Module):
    """A further self-attention of a block, with its norm, behind a ConvFFN ("Only Self-attentions", Table 3).

    Deviation: the paper does not describe that network. Here SelfAttn(LN(ConvFFN(F))) stands where Eq. 3 has
    ConvAttn(ConvFFN(F)), twice as wide inside as outside; parameters and MACs are those printed.
    """

    def __init__(self, config: ESCConfig) -> None:
        super().__init__()
        self.ffn = ConvFFN(config.dim, config.first_expansion)
        self.norm = LayerNorm2d(config.dim)
        self.attn = WindowAttention(config.dim, config.window, config.heads)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        return self.attn(self.norm(self.ffn(x)))


class ESCBlock(nn.Module):
    """One block: ConvFFN, self-attention, then M pairs of ConvFFN and ConvAttn (Eq. 3)."""

    def __init__(self, config: ESCConfig) -> None:
        super().__init__()
        dim, pairs = config.dim, range(config.n_convattn)
        conv_attn = DecomposedConvAttn if config.decomposed else ConvAttn
        self.norm_in = LayerNorm2d(dim)
        self.ffn_in = ConvFFN(dim, config.first_expansion)
        self.norm_attn, self.attn = None, None
        if config.n_attn:
            self.norm_attn = LayerNorm2d(dim)
            self.attn = WindowAttention(dim, config.window, config.heads)
        self.more_attns = nn.ModuleList(FedAttention(config) for _ in range(config.n_attn - 1))
        self.ffn_norms = nn.ModuleList(LayerNorm2d(dim) if config.ffn_norm else nn.Identity() for _ in pairs)
        self.ffns = nn.ModuleList(ConvFFN(dim, config.expansion) for _ in pairs)
        self.convattns = nn.ModuleList(conv_attn(config) for _ in pairs)
        self.norm_out = LayerNorm2d(dim)
        self.conv_out = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor, shared: LargeKernels) -> Tensor:
        """(B, C, H, W) and the network's large kernel to (B, C, H, W)."""
        f = self.ffn_in(self.norm_in(x))
        if self.attn and self.norm_attn:
            f = f + self.attn(self.norm_attn(f))
        for attn in self.more_attns:
            f = f + attn(f)
        for norm, ffn, convattn in zip(self.ffn_norms, self.ffns, self.convattns, strict=True):
            f = f + convattn(ffn(norm(f)), shared)
        return x + self.conv_out(self.norm_out(f))
