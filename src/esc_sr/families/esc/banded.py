"""The layers of a network, executed faster: band by band of rows, fused, and by compiled kernels.

`blocks.py` and `esc.py` say what is computed, layer after layer; this file computes the same, but for
rounding, with their modules and weights, where nobody looks at a single layer.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr import native
from esc_sr.families.esc.blocks import (
    ConvAttn,
    ConvFFN,
    ESCBlock,
    FedAttention,
    WindowAttention,
)
from esc_sr.families.esc.kernels import LargeKernels
from esc_sr.families.parts.norms import LayerNorm2d
from esc_sr.network.attention import attend_windows
from esc_sr.network.padding import channels_last, pad_to_multiple
from esc_sr.network.rows import Bands, rowwise, rowwise_each, sum_of, walk

if TYPE_CHECKING:
    from esc_sr.families.esc.network import ESC, ESCEncoder

_LEAST_CHANNELS = 16
"""Channels of a 3x3 convolution, in and out, from which on the kernel for it is faster than torch's."""


def enlarge(network: "ESC", lr: Tensor, bands: Bands | None) -> Iterator[tuple[int, Tensor]]:
    """Enlarge pictures band by band (Eq. 1); `lr` is not written to.

    Args:
        network: The network.
        lr: (B, 3, H, W), RGB in 0..1, any sides from 1.
        bands: How, if no gradient is recorded; None makes it one band.

    Yields:
        The first row of a band of the result, and the band (B, 3, h, scale W), from top to bottom.
    """
    config = network.config
    height, width = config.scale * lr.shape[2], config.scale * lr.shape[3]
    x = network.folded(lr)
    f = features(network, x, bands)
    if config.skip == "conv":
        f = rowwise(network.skip, (x,), bands, onto=f, halo=network.skip.reach)
    enlargement = config.scale * config.unshuffle
    share = 1 if config.upsampler == "pixelshuffledirect" else 4 / enlargement**2
    finish = partial(_finish, network)
    for top, (sr,) in walk(finish, (f, x), bands, halo=4, share=share):
        top *= enlargement
        yield top, sr[:, :, : height - top, :width]


def _finish(network: "ESC", f: Tensor, x: Tensor) -> tuple[Tensor]:
    """Features and folded picture to the enlarged one; reaches 4 pixels far."""
    for layer in network.upsampler:
        f = _convolve_3x3(layer, nn.Identity(), f) if isinstance(layer, nn.Conv2d) else layer(f)
    return (network.add_picture(f, x),)


def features(network: "ESCEncoder", lr: Tensor, bands: Bands | None) -> Tensor:
    """Extract features F (B, C, H, W) from a picture (B, 3 unshuffle^2, H, W) (Eq. 1, 2); else as `enlarge`.

    With bands, no more is alive at once than two maps of C channels and one of pdim, or of C where a block
    has several self-attentions; for that, the shallow features are computed twice.
    """
    shared = network.shared()
    if native.takes(lr):  # all that follows then lies as the kernels like it
        lr = channels_last(lr)
    last = partial(_convolve_3x3, network.tail, network.norm_last)
    shallow = rowwise(network.head, (lr,), bands, halo=1)
    deep = shallow
    for block in network.blocks:
        assert isinstance(block, ESCBlock)
        deep = _block(block, deep, shared, bands)
    if bands is None:
        return shallow + last(deep)
    return rowwise(lambda lr, deep: network.head(lr) + last(deep), (lr, deep), bands, halo=1)


def _block(block: ESCBlock, x: Tensor, shared: LargeKernels, bands: Bands | None) -> Tensor:
    """(B, C, H, W) to (B, C, H, W) (Eq. 3); with bands, in place of the input."""
    f = rowwise(lambda x: _feed_forward(block.ffn_in, block.norm_in, x), (x,), bands, halo=1)
    if block.attn and block.norm_attn:
        f = _add_attention(f, f, block.norm_attn, block.attn, bands)
    for fed in block.more_attns:
        assert isinstance(fed, FedAttention)
        f = _add_fed_attention(f, fed, bands)
    for norm, ffn, convattn in zip(block.ffn_norms, block.ffns, block.convattns, strict=True):
        assert isinstance(convattn, ConvAttn) and isinstance(ffn, ConvFFN)
        f = _add_convattn(f, norm, ffn, convattn, shared, bands)
    return rowwise(partial(_convolve_3x3, block.conv_out, block.norm_out), (f,), bands, onto=x, halo=1)


def _feed_forward(ffn: ConvFFN, norm: nn.Module, x: Tensor) -> Tensor:
    if not native.takes(x):
        return ffn(norm(x))
    x, expand, epsilon = _absorb(norm, x, ffn.expand)
    layers = *expand, *_parameters(ffn.dwconv, ffn.project)
    y, _ = native.feed_forward(x, layers, ffn.project.out_channels, epsilon)
    return y


def _add_fed_attention(f: Tensor, fed: FedAttention, bands: Bands | None) -> Tensor:
    """Add a further self-attention, behind its ConvFFN, to f."""
    y = rowwise(lambda f: _feed_forward(fed.ffn, nn.Identity(), f), (f,), bands, halo=1)
    return _add_attention(f, y, fed.norm, fed.attn, bands)


def _add_attention(
    f: Tensor, y: Tensor, norm: nn.Module, attn: WindowAttention, bands: Bands | None
) -> Tensor:
    """Add SelfAttn(LN(y)) to f (Eq. 3, line 2)."""
    return rowwise(
        lambda y: _attend(attn, norm, y),
        (y,),
        bands,
        onto=f,
        align=attn.window,
        share=0.25,
        add=partial(_pointwise, *_parameters(attn.out)),
    )


def _attend(attn: WindowAttention, norm: nn.Module, x: Tensor) -> Tensor:
    """Self-attention (B, C, H, W) without its last 1x1 convolution."""
    height, width = x.shape[2:]
    if native.takes(x):
        x, (weight, bias), epsilon = _absorb(norm, x, attn.qkv)
        qkv = native.pointwise(pad_to_multiple(x, attn.window), weight, bias, epsilon=epsilon)
    else:
        qkv = attn.qkv(pad_to_multiple(norm(x), attn.window))
    return attend_windows(qkv, attn.bias_table, attn.window, attn.backend)[:, :, :height, :width]


def _add_convattn(
    f: Tensor,
    norm: nn.Module,
    ffn: ConvFFN,
    convattn: ConvAttn,
    shared: LargeKernels,
    bands: Bands | None,
) -> Tensor:
    """Add ConvAttn(ConvFFN(f)) to f (Eq. 3, line 3).

    Of a concatenation, a 1x1 convolution is the sum of one of each part. So idt, which needs no means of the
    picture, is fused and added at once, and of the ConvFFN's result only att is kept for the whole picture.
    """
    f, att = rowwise_each(lambda f: _split(ffn, convattn, norm, f), (f,), bands, onto=(f, None), halo=1)
    known = {} if bands is None or bands.kernels is None else bands.kernels
    if convattn not in known:
        known[convattn] = convattn.dynamic_kernel(att)
    dynamic, large = known[convattn], convattn.large(shared)
    return rowwise(
        lambda att: _convolve(convattn, att, large, dynamic),
        (att,),
        bands,
        onto=f,
        halo=large[-1].shape[-1] // 2,
        share=4,
        add=partial(_pointwise, convattn.fuse.weight[:, : convattn.pdim], None),
    )


def _split(ffn: ConvFFN, convattn: ConvAttn, norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of ffn(norm(x)), (B, C, H, W), fuse idt to (B, C, H, W); return that, and att (B, pdim, H, W)."""
    cut = convattn.pdim
    fuse, fuse_bias = _parameters(convattn.fuse)
    fuse = fuse[:, cut:]
    if cut == len(fuse):  # nothing passes ConvAttn
        y = _feed_forward(ffn, norm, x)
        return fuse_bias.view(-1, 1, 1).expand_as(y), y
    if not native.takes(x):
        y = ffn(norm(x))
        return F.conv2d(y[:, cut:], fuse, fuse_bias), y[:, :cut]
    # what makes idt of the hidden h, and fuse after it, are one product: fuse (W h + b) = (fuse W) h + fuse b
    weight, bias = _parameters(ffn.project)
    weight = torch.cat((weight[:cut], torch.einsum("ocij,chij->ohij", fuse, weight[cut:])))
    bias = torch.cat((bias[:cut], fuse[:, :, 0, 0] @ bias[cut:] + fuse_bias))
    x, expand, epsilon = _absorb(norm, x, ffn.expand)
    att, idt = native.feed_forward(x, (*expand, *_parameters(ffn.dwconv), weight, bias), cut, epsilon)
    return idt, att


def _convolve(convattn: ConvAttn, att: Tensor, large: LargeKernels, dynamic: Tensor | None) -> Tensor:
    """Convolve (B, pdim, H, W) with both kernels (Eq. 4, line 3)."""
    if len(large) == 1 and large[0].shape[-1] <= native.LARGEST and native.takes(att):
        if dynamic is None:
            dynamic = att.new_zeros(*att.shape[:2], 3, 3)
        return native.large_conv(att, large[0], dynamic)
    return convattn.convolve(att, large, dynamic)


def _convolve_3x3(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """conv(norm(x)); by the kernel where it serves: for float32 without gradients, and enough channels."""
    exact = x.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    if (
        not exact
        or torch.is_grad_enabled()
        or min(conv.weight.shape[:2]) < _LEAST_CHANNELS
        or not native.takes(x)
    ):
        return conv(norm(x))
    if isinstance(norm, LayerNorm2d):
        return native.conv3x3(x, *_parameters(conv), norm=(norm.weight, norm.bias, norm.eps))
    return native.conv3x3(norm(x), *_parameters(conv))


def _absorb(norm: nn.Module, x: Tensor, after: nn.Conv2d) -> tuple[Tensor, list[Tensor], float]:
    """Input, weight and bias, and epsilon for a kernel that computes norm and then a 1x1 convolution.

    Where gradients are recorded the norm is computed at once, as kernels have none of it.
    """
    weight, bias = _parameters(after)
    if torch.is_grad_enabled() or not isinstance(norm, LayerNorm2d):
        return norm(x), [weight, bias], 0
    return x, [weight * norm.weight[:, None, None], bias + weight[:, :, 0, 0] @ norm.bias], norm.eps


def _pointwise(weight: Tensor, bias: Tensor | None, x: Tensor, onto: Tensor | None = None) -> Tensor:
    """Convolve (B, C, H, W) with (C', C, 1, 1); with `onto`, add the result to that, in place."""
    if native.takes(x) and (onto is None or native.takes_onto(x, onto)):
        return native.pointwise(x, weight, bias, onto=onto)
    return sum_of(F.conv2d(x, weight, bias), onto)


def _parameters(*layers: nn.Conv2d) -> list[Tensor]:
    """Weight and bias of each layer."""
    return [t for layer in layers for t in (layer.weight, layer.bias) if t is not None]
