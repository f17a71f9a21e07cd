"""The layers of an ESC block (Sec. 3.3, Figure 4, Eq. 3 to 5)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr import native
from esc_sr.network.attention import attend_windows
from esc_sr.network.padding import reflect_pad
from esc_sr.network.rows import Bands, rowwise, rowwise_each

LargeKernels = tuple[Tensor, ...]  # one full kernel, or its channel and spatial factors


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of (B, C, H, W), eps 1e-6.

    Under autocast on a CPU it computes in float32: in bfloat16 torch adds up the gradients of weight and bias
    in bfloat16 there, which makes them wrong by more than half.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel of (B, C, H, W)."""
        pixels = x.permute(0, 2, 3, 1)
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(pixels.float()).to(x.dtype).permute(0, 3, 1, 2)
        return super().forward(pixels).permute(0, 3, 1, 2)


class BiasedConv2d(nn.Conv2d):
    """A convolution that has a bias."""

    bias: Tensor


class PointwiseConv2d(BiasedConv2d):
    """A 1x1 convolution with a bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H, W)."""
        return pointwise(x, self.weight, self.bias)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve (B, C, H, W) with (C', C, 1, 1)."""
    return native.pointwise(x, weight, bias) if native.takes(x) else F.conv2d(x, weight, bias)


class ConvFFN(nn.Module):
    """Feed-forward network with a depthwise 3x3 convolution inside; no residual (Sec. 3.3, Eq. 3)."""

    def __init__(self, dim: int, expansion: float) -> None:
        super().__init__()
        hidden = int(dim * expansion)
        self.expand = BiasedConv2d(dim, hidden, 1)
        self.dwconv = BiasedConv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.project = BiasedConv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W); reaches 1 pixel far."""
        if native.takes(x):
            project = self.project
            return native.feed_forward(x, (*self.hidden(), project.weight, project.bias), len(project.bias))[
                0
            ]
        h = F.gelu(self.expand(x))
        h = F.gelu(self.dwconv(h)) + h  # (B, hidden, H, W)
        return self.project(h)

    def hidden(self) -> tuple[Tensor, ...]:
        """Weight and bias of the two convolutions that make the hidden features."""
        return self.expand.weight, self.expand.bias, self.dwconv.weight, self.dwconv.bias


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows that do not overlap (Sec. 3.3, Table 1).

    Attributes:
        backend: How attention is computed, one of `attention.BACKENDS`.
    """

    def __init__(self, dim: int, window: int, heads: int) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.backend = "auto"
        self.bias_table = nn.Parameter(torch.randn(heads, (2 * window - 1) ** 2) * 0.001)
        self.qkv = PointwiseConv2d(dim, 3 * dim)
        self.out = PointwiseConv2d(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W); the picture is reflected up to whole windows."""
        height, width = x.shape[2:]
        qkv = self.qkv(reflect_pad(x, 0, -width % self.window, 0, -height % self.window))
        y = attend_windows(qkv, self.bias_table, self.window, self.backend)
        return self.out(y[:, :, :height, :width])


class ConvAttn(nn.Module):
    """Convolutional attention: a shared large kernel and a dynamic kernel on the first channels (Eq. 4).

    Its result is the sum of two parts: `split` needs a pixel of the input, `mix` the means of the picture.
    """

    squeeze = 2

    def __init__(self, dim: int, pdim: int) -> None:
        super().__init__()
        self.pdim = pdim
        self.estimator = nn.Sequential(
            nn.Conv2d(pdim, pdim // self.squeeze, 1), nn.GELU(), nn.Conv2d(pdim // self.squeeze, 9 * pdim, 1)
        )
        self.fuse = BiasedConv2d(dim, dim, 1)
        self.reset_estimator()

    def reset_estimator(self) -> None:
        """Start with a dynamic kernel of zeros, that is with the large kernel alone."""
        for parameter in self.estimator[-1].parameters():
            nn.init.zeros_(parameter)

    def dynamic_kernel(self, x: Tensor) -> Tensor:
        """Estimate the depthwise 3x3 kernels (B, pdim, 3, 3) of (B, C, H, W), from global means."""
        means = x[:, : self.pdim].mean((2, 3), keepdim=True)
        kernel: Tensor = self.estimator(means.to(self.fuse.weight.device))
        return kernel.view(-1, self.pdim, 3, 3)

    def convolve(self, att: Tensor, large: LargeKernels, dynamic: Tensor) -> Tensor:
        """Convolve (B, pdim, H, W) with both kernels (Eq. 4, line 3)."""
        (kernel,) = large
        if kernel.shape[-1] <= native.LARGEST and native.takes(att):
            return native.large_conv(att, kernel, dynamic)
        return F.conv2d(att, kernel, padding=kernel.shape[-1] // 2) + depthwise(att, dynamic)

    def split(self, ffn: ConvFFN, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of ffn(x), (B, C, H, W), fuse the channels that pass; return that, and the others, `att`."""
        fuse, cut = self.fuse.weight[:, self.pdim :], self.pdim
        if native.takes(x):  # the last convolution of the ConvFFN and this one are computed as one
            weight, bias = ffn.project.weight, ffn.project.bias
            fused = torch.einsum("ocij,chij->ohij", fuse, weight[cut:])
            weight = torch.cat((weight[:cut], fused))
            bias = torch.cat((bias[:cut], fuse[:, :, 0, 0] @ bias[cut:] + self.fuse.bias))
            att, idt = native.feed_forward(x, (*ffn.hidden(), weight, bias), cut)
            return idt, att
        y = ffn(x)
        return F.conv2d(y[:, cut:], fuse, self.fuse.bias), y[:, :cut]

    def mix(self, att: Tensor, large: LargeKernels, dynamic: Tensor) -> Tensor:
        """Convolve and fuse (B, pdim, H, W) to (B, C, H, W); reaches half a large kernel far."""
        return pointwise(self.convolve(att, large, dynamic), self.fuse.weight[:, : self.pdim])


class DecomposedConvAttn(ConvAttn):
    """ConvAttn of ESC-FP: the large kernel split into a channel and a spatial factor (Eq. 5)."""

    squeeze = 4

    def reset_estimator(self) -> None:
        """Keep torch's initialisation, as the released ESC-FP does."""

    def convolve(self, att: Tensor, large: LargeKernels, dynamic: Tensor) -> Tensor:
        """Convolve (B, pdim, H, W) across channels, then with dynamic plus large kernel per channel."""
        channel, spatial = large
        border = (spatial.shape[-1] - dynamic.shape[-1]) // 2
        return depthwise(F.conv2d(att, channel), F.pad(dynamic, (border,) * 4) + spatial[:, 0])


def depthwise(x: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each channel of each picture (B, C, H, W) with its own kernel of (B, C, k, k)."""
    b, c, h, w = x.shape
    size = kernels.shape[-1]
    y = F.conv2d(
        x.reshape(1, b * c, h, w), kernels.reshape(b * c, 1, size, size), padding=size // 2, groups=b * c
    )
    return y.view(b, c, h, w)


class ESCBlock(nn.Module):
    """One block: ConvFFN, self-attention, then M pairs of ConvFFN and ConvAttn (Eq. 3)."""

    def __init__(
        self,
        dim: int,
        pdim: int,
        *,
        n_convattn: int,
        window: int,
        heads: int,
        expansion: float,
        first_expansion: float,
        ffn_norm: bool,
        decomposed: bool,
    ) -> None:
        super().__init__()
        conv_attn = DecomposedConvAttn if decomposed else ConvAttn
        self.norm_in = LayerNorm2d(dim)
        self.ffn_in = ConvFFN(dim, first_expansion)
        self.norm_attn = LayerNorm2d(dim)
        self.attn = WindowAttention(dim, window, heads)
        self.ffn_norms = nn.ModuleList(
            LayerNorm2d(dim) if ffn_norm else nn.Identity() for _ in range(n_convattn)
        )
        self.ffns = nn.ModuleList(ConvFFN(dim, expansion) for _ in range(n_convattn))
        self.convattns = nn.ModuleList(conv_attn(dim, pdim) for _ in range(n_convattn))
        self.norm_out = LayerNorm2d(dim)
        self.conv_out = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor, large: LargeKernels, bands: Bands | None = None) -> Tensor:
        """(B, C, H, W) and the network's large kernel to (B, C, H, W); with bands, in place of the input."""
        f = rowwise(lambda x: self.ffn_in(self.norm_in(x)), (x,), bands, halo=1)
        f = rowwise(lambda f: self.attn(self.norm_attn(f)), (f,), bands, onto=f, align=self.attn.window)
        for norm, ffn, convattn in zip(self.ffn_norms, self.ffns, self.convattns, strict=True):
            assert isinstance(convattn, ConvAttn) and isinstance(ffn, ConvFFN)
            f = self._attend(f, norm, ffn, convattn, large, bands)
        return rowwise(lambda f: self.conv_out(self.norm_out(f)), (f,), bands, onto=x, halo=1)

    def _attend(
        self,
        f: Tensor,
        norm: nn.Module,
        ffn: ConvFFN,
        convattn: ConvAttn,
        large: LargeKernels,
        bands: Bands | None,
    ) -> Tensor:
        """Add ConvAttn(ConvFFN(f)) to f; of the ConvFFN's result only `att` is kept for the whole picture."""
        f, att = rowwise_each(lambda f: convattn.split(ffn, norm(f)), (f,), bands, onto=(f, None), halo=1)
        known = {} if bands is None or bands.kernels is None else bands.kernels
        if convattn not in known:
            known[convattn] = convattn.dynamic_kernel(att)
        dynamic, reach = known[convattn], large[-1].shape[-1] // 2
        return rowwise(
            lambda att: convattn.mix(att, large, dynamic), (att,), bands, onto=f, halo=reach, share=4
        )
