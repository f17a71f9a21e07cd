"""ESC: Emulating Self-attention with Convolution (Sec. 3.2, Eq. 1 and 2, Figure 3)."""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.contract import Cost, Encoder, Network, Unfused
from esc_sr.families.esc import banded
from esc_sr.families.esc.blocks import ESCBlock
from esc_sr.families.esc.config import ESCConfig
from esc_sr.families.esc.kernels import DecomposedLargeKernel, LargeKernel, LargeKernels
from esc_sr.families.esc.upsamplers import ConvSkip, build_upsampler
from esc_sr.families.parts.norms import LayerNorm2d
from esc_sr.network import rows
from esc_sr.network.padding import pad_to_multiple
from esc_sr.network.rows import Bands, default_bands, join

_WITHOUT_WINDOWS = 32
"""What bands and tiles are multiples of where there is no self-attention, px."""


class ESCEncoder(Encoder):
    """Everything of ESC before the upsampler: picture to features (Eq. 1, lines 1 and 2; Eq. 2).

    Tiles of it are whole windows and share two of them: each reaches one beyond the middle of the blend. What
    ConvAttn has from the means of the whole picture, it gets from the picture reduced to a tile (Eq. 4, DK).
    """

    config: ESCConfig
    has_bands = True
    framed = True
    surveys = True
    inner = ("blocks", "tail")

    def __init__(self, config: ESCConfig) -> None:
        super().__init__()
        self.config = config
        self.dim, self.window, self.fold = config.dim, config.window, config.unshuffle
        self.measured_multiple = config.window
        self.multiple = (config.window if config.n_attn else _WITHOUT_WINDOWS) * config.unshuffle
        self.blend = 2 * self.multiple
        self.large_kernel: LargeKernel | DecomposedLargeKernel | None = None
        if config.n_convattn and not config.own_kernels:
            kernel = DecomposedLargeKernel if config.decomposed else LargeKernel
            self.large_kernel = kernel(config.pdim, config.kernel)
        self.head = nn.Conv2d(3 * config.unshuffle**2, config.dim, 3, padding=1)
        self.blocks = nn.ModuleList(ESCBlock(config) for _ in range(config.n_blocks))
        self.norm_last = LayerNorm2d(config.dim) if config.decomposed else nn.Identity()
        self.tail = nn.Conv2d(config.dim, config.dim, 3, padding=1)
        self.made_of = rows.layers_of(self)

    def forward(self, lr: Tensor) -> Tensor:
        """`features`, executed as `rows.applies` decides."""
        if rows.applies(self, self.made_of, lr):
            return banded.features(self, lr, default_bands(lr))
        return self.features(lr)

    def features(self, lr: Tensor) -> Tensor:
        """Extract features F (B, C, H, W) from a picture (B, 3 unshuffle^2, H, W) (Eq. 1, 2)."""
        large = self.shared()
        shallow = self.head(lr)  # (B, C, H, W)
        deep = shallow
        for block in self.blocks:
            deep = block(deep, large)
        return shallow + self.tail(self.norm_last(deep))

    def shared(self) -> LargeKernels:
        """The large kernel of all ConvAttns; nothing where each has its own, or there are none."""
        return () if self.large_kernel is None else self.large_kernel()

    @property
    def passes(self) -> int:
        """How many stages `banded.features` takes the whole picture through."""
        attentions = max(2 * self.config.n_attn - 1, 0)
        return 2 + self.config.n_blocks * (2 + attentions + 2 * self.config.n_convattn)

    @property
    def unfused(self) -> Unfused:
        """As `Traits.unfused`, measured at esc-light x4, rounded up."""
        config, fold = self.config, self.config.unshuffle**2
        hidden = int(config.dim * max(config.expansion, config.first_expansion))
        scores = 3 * config.heads * config.window**2 if config.n_attn else 0
        enlarged = 6 * (config.scale or 1) ** 2
        return Unfused(scores // fold, (12 * config.dim + 8 * hidden) // fold + enlarged)

    def encode(self, x: Tensor, bands: Bands | None) -> Tensor:
        """`banded.features` for this network."""
        return banded.features(self, x, bands)

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`.

        Maps are two of C channels and one of pdim, or of C where a block has several self-attentions
        (`banded`), with a pixel for each unshuffle^2. What is alive at once for each pixel of a band is
        measured, rounded up. Held are the scores of a window, as many biases, and the folded picture.
        """
        config = self.config
        hidden = int(config.dim * max(config.expansion, config.first_expansion))
        band = max(18 * config.dim, 7 * hidden) + 6 * config.dim
        maps = 2 * config.dim + (config.dim if config.n_attn > 1 else config.pdim)
        fold, pixels = config.unshuffle, height * width
        return Cost(
            held=8 * config.heads * config.window**4 + (12 * pixels if fold > 1 else 0),
            band=band * number * rows * width // fold**2,
            maps=maps * pixels * number // fold**2,
        )


class ESC(ESCEncoder, Network):
    """The network for whole-number scales: ESC, ESC-light, ESC-FP, ESC-XL, ESC-Real and ESC-Real-M.

    Attributes:
        config: The sizes it was built from.
    """

    config: ESCConfig

    def __init__(self, config: ESCConfig) -> None:
        super().__init__(config)
        enlargement = config.scale * config.unshuffle
        self.upsampler = build_upsampler(config.upsampler, config.dim, config.upsampler_width, enlargement)
        if config.skip == "conv":
            self.skip = ConvSkip(3 * config.unshuffle**2, config.dim)
        self.made_of = rows.layers_of(self)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures (Eq. 1), executed as `rows.applies` decides.

        Args:
            lr: (B, 3, H, W), RGB in 0..1, any sides from 1.

        Returns:
            (B, 3, scale H, scale W), RGB around 0..1, not clamped.
        """
        height, width = self.config.scale * lr.shape[2], self.config.scale * lr.shape[3]
        if rows.applies(self, self.made_of, lr):
            return join(self.bands(lr, default_bands(lr)), height)
        x = self.folded(lr)  # (B, 3 unshuffle^2, H', W')
        f = self.features(x)  # (B, C, H', W')
        if self.config.skip == "conv":
            f = f + self.skip(x)
        return self.add_picture(self.upsampler(f), x)[:, :, :height, :width]

    def folded(self, lr: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 3 unshuffle^2, H', W'), the sides reflected up to whole pixels."""
        unshuffle = self.config.unshuffle
        return F.pixel_unshuffle(pad_to_multiple(lr, unshuffle), unshuffle)

    def add_picture(self, sr: Tensor, x: Tensor) -> Tensor:
        """Add the folded picture, enlarged, to the upsampler's result (Eq. 1, line 4), unless F holds it."""
        if self.config.skip == "conv":
            return sr
        # Supp. 6.1: ESC adds F_s, each colour scale^2 times, to the channels before their shuffle; ESC-FP its
        # bicubic F_s after it. Repeated colours, shuffled, are a nearest enlargement: here all come after.
        lr = F.pixel_shuffle(x, self.config.unshuffle)
        return sr + F.interpolate(lr, scale_factor=self.config.scale, mode=self.config.skip)

    def bands(
        self, lr: Tensor, bands: Bands | None, size: tuple[int, int] | None = None, frame: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """`banded.enlarge` for this network; its size follows from its scale."""
        return banded.enlarge(self, lr, bands)

    @property
    def passes(self) -> int:
        """How many stages `bands` takes the whole picture through."""
        return super().passes + 1 + (self.config.skip == "conv")
