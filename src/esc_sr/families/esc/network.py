"""ESC: Emulating Self-attention with Convolution (Sec. 3.2, Eq. 1 and 2, Figure 3)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.esc import banded
from esc_sr.families.esc.blocks import ESCBlock, LargeKernels, LayerNorm2d, WindowAttention
from esc_sr.families.esc.upsamplers import SKIPS, UPSAMPLERS, ConvSkip, build_upsampler
from esc_sr.network.attention import BACKENDS
from esc_sr.network.padding import pad_to_multiple
from esc_sr.network.rows import Bands, default_bands, join


@dataclass(frozen=True)
class ESCConfig:
    """Sizes of a network of the ESC family (Supp. 6); the defaults are ESC x2.

    Attributes:
        scale: Enlargement, a whole number from 1.
        dim: Channels C.
        pdim: Channels that ConvAttn convolves.
        kernel: Side of the large kernel, odd.
        n_blocks: Blocks N.
        n_convattn: ConvAttns per block M.
        window: Side of the attention window in pixels.
        heads: Attention heads.
        expansion: Hidden over outer width of each ConvFFN.
        first_expansion: The same of the ConvFFN before self-attention.
        ffn_norm: LayerNorm before each ConvFFN.
        decomposed: ESC-FP: large kernel in two factors (Eq. 5), LayerNorm before the last convolution.
        skip: Long skip S, one of `upsamplers.SKIPS`.
        upsampler: Upsampler U, one of `upsamplers.UPSAMPLERS`.
        upsampler_width: Channels inside the pixelshuffle and dysample upsamplers.
        unshuffle: Pictures are first folded into channels by this factor, then enlarged by scale x unshuffle.
    """

    scale: int = 2
    dim: int = 64
    pdim: int = 16
    kernel: int = 13
    n_blocks: int = 5
    n_convattn: int = 5
    window: int = 32
    heads: int = 4
    expansion: float = 1.25
    first_expansion: float = 2.0
    ffn_norm: bool = False
    decomposed: bool = False
    skip: str = "nearest"
    upsampler: str = "pixelshuffledirect"
    upsampler_width: int = 48
    unshuffle: int = 1

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range or two of them do not fit each other.
        """
        checks = {
            f"scale {self.scale} is not a whole number from 1": self.scale >= 1,
            f"kernel {self.kernel} is not odd": self.kernel % 2 == 1,
            f"pdim {self.pdim} is not between 4 and dim {self.dim}": 4 <= self.pdim <= self.dim,
            f"dim {self.dim} is not a multiple of heads {self.heads}": self.dim % self.heads == 0,
            f"skip {self.skip!r} is none of {', '.join(SKIPS)}": self.skip in SKIPS,
            f"upsampler {self.upsampler!r} is none of {', '.join(UPSAMPLERS)}": self.upsampler in UPSAMPLERS,
        }
        for problem, fine in checks.items():
            if not fine:
                raise ValueError(problem)


def symmetrize(kernel: Tensor) -> Tensor:
    """Average kernels (..., k, k) over the eight flips and rotations of the square; idempotent."""
    turns = [torch.rot90(kernel, n, (-2, -1)) for n in range(4)]
    return torch.stack([*turns, *(turn.flip(-1) for turn in turns)]).mean(0)


class LargeKernel(nn.Module):
    """The large kernel that all ConvAttns share (Sec. 3.3, Eq. 4).

    Deviation: averaged over flips and rotations, as the released code does and the paper does not say.
    """

    def __init__(self, pdim: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(pdim, pdim, size, size)))

    def forward(self) -> LargeKernels:
        """Return the kernel (pdim, pdim, size, size), symmetrized."""
        return (symmetrize(self.weight),)


class DecomposedLargeKernel(nn.Module):
    """ESC-FP's large kernel as a channel and a spatial factor (Eq. 5)."""

    def __init__(self, pdim: int, size: int) -> None:
        super().__init__()
        self.channel = nn.Parameter(torch.randn(pdim, pdim, 1, 1))
        self.spatial = nn.Parameter(nn.init.orthogonal_(torch.empty(pdim, 1, size, size)))

    def forward(self) -> LargeKernels:
        """Return the factors (pdim, pdim, 1, 1) and (pdim, 1, size, size)."""
        return self.channel, self.spatial


class ESCEncoder(nn.Module):
    """Everything of ESC before the upsampler: picture to features (Eq. 1, lines 1 and 2; Eq. 2)."""

    def __init__(self, config: ESCConfig) -> None:
        super().__init__()
        self.config = config
        kernel = DecomposedLargeKernel if config.decomposed else LargeKernel
        self.large_kernel: LargeKernel | DecomposedLargeKernel = kernel(config.pdim, config.kernel)
        self.head = nn.Conv2d(3 * config.unshuffle**2, config.dim, 3, padding=1)
        self.blocks = nn.ModuleList(
            ESCBlock(
                config.dim,
                config.pdim,
                n_convattn=config.n_convattn,
                window=config.window,
                heads=config.heads,
                expansion=config.expansion,
                first_expansion=config.first_expansion,
                ffn_norm=config.ffn_norm,
                decomposed=config.decomposed,
            )
            for _ in range(config.n_blocks)
        )
        self.norm_last = LayerNorm2d(config.dim) if config.decomposed else nn.Identity()
        self.tail = nn.Conv2d(config.dim, config.dim, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        """`features`, executed as `banded.applies` decides."""
        if banded.applies(self, lr):
            return banded.features(self, lr, default_bands(lr))
        return self.features(lr)

    def features(self, lr: Tensor) -> Tensor:
        """Extract features F (B, C, H, W) from a picture (B, 3 unshuffle^2, H, W) (Eq. 1, 2)."""
        large = self.large_kernel()
        shallow = self.head(lr)  # (B, C, H, W)
        deep = shallow
        for block in self.blocks:
            deep = block(deep, large)
        return shallow + self.tail(self.norm_last(deep))

    @property
    def passes(self) -> int:
        """How many stages `banded.features` takes the whole picture through."""
        return 2 + self.config.n_blocks * (3 + 2 * self.config.n_convattn)

    @property
    def attention(self) -> str:
        """How self-attention is computed, one of `attention.BACKENDS`; may be changed at any time."""
        return self._attentions()[0].backend

    @attention.setter
    def attention(self, backend: str) -> None:
        if backend not in BACKENDS:
            raise ValueError(f"attention backend {backend!r} is none of {', '.join(BACKENDS)}")
        for layer in self._attentions():
            layer.backend = backend

    def _attentions(self) -> list[WindowAttention]:
        return [layer for layer in self.modules() if isinstance(layer, WindowAttention)]

    def fold(self) -> None:
        """Write the symmetrized large kernel into the weights (inference form); results stay the same."""
        if isinstance(self.large_kernel, LargeKernel):
            with torch.no_grad():
                self.large_kernel.weight.copy_(symmetrize(self.large_kernel.weight))


class ESC(ESCEncoder):
    """The network for whole-number scales: ESC, ESC-light, ESC-FP, ESC-XL, ESC-Real and ESC-Real-M.

    Attributes:
        config: The sizes it was built from.
    """

    def __init__(self, config: ESCConfig) -> None:
        super().__init__(config)
        enlargement = config.scale * config.unshuffle
        self.upsampler = build_upsampler(config.upsampler, config.dim, config.upsampler_width, enlargement)
        if config.skip == "conv":
            self.skip = ConvSkip(3 * config.unshuffle**2, config.dim)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures (Eq. 1), executed as `banded.applies` decides.

        Args:
            lr: (B, 3, H, W), RGB in 0..1, any sides from 1.

        Returns:
            (B, 3, scale H, scale W), RGB around 0..1, not clamped.
        """
        height, width = self.config.scale * lr.shape[2], self.config.scale * lr.shape[3]
        if banded.applies(self, lr):
            return join(self.bands(lr, default_bands(lr)), height)
        x = self.folded(lr)  # (B, 3 unshuffle^2, H', W')
        f = self.features(x)  # (B, C, H', W')
        if self.config.skip == "conv":
            f = f + self.skip(x)
        return self.finish(f, x)[:, :, :height, :width]

    def folded(self, lr: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 3 unshuffle^2, H', W'), the sides reflected up to whole pixels."""
        unshuffle = self.config.unshuffle
        return F.pixel_unshuffle(pad_to_multiple(lr, unshuffle), unshuffle)

    def finish(self, f: Tensor, x: Tensor) -> Tensor:
        """Features and folded picture to the enlarged one (Eq. 1, lines 3 and 4); reaches 4 pixels far."""
        sr = self.upsampler(f)
        if self.config.skip == "conv":
            return sr
        # Supp. 6.1: ESC adds F_s, each colour scale^2 times, to the channels before their shuffle; ESC-FP its
        # bicubic F_s after it. Repeated colours, shuffled, are a nearest enlargement: here all come after.
        lr = F.pixel_shuffle(x, self.config.unshuffle)
        return sr + F.interpolate(lr, scale_factor=self.config.scale, mode=self.config.skip)

    def bands(self, lr: Tensor, bands: Bands | None) -> Iterator[tuple[int, Tensor]]:
        """`banded.enlarge` for this network."""
        return banded.enlarge(self, lr, bands)

    @property
    def passes(self) -> int:
        """How many stages `bands` takes the whole picture through."""
        return super().passes + 1 + (self.config.skip == "conv")
