"""The sizes of a network of ESC's family."""

from dataclasses import dataclass, replace

from esc_sr.families.contract import Config
from esc_sr.families.esc.upsamplers import SKIPS, UPSAMPLERS


@dataclass(frozen=True)
class ESCConfig(Config):
    """Sizes of a network of the ESC family (Supp. 6); the defaults are ESC x2.

    Attributes:
        scale: Enlargement, a whole number from 1.
        dim: Channels C.
        pdim: Channels that ConvAttn convolves.
        kernel: Side of the large kernel, odd, from 3.
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
        n_attn: Self-attentions per block (Table 3): with 0 line 2 of Eq. 3 is left out; those after the first
            stand where a ConvAttn would, each behind a ConvFFN of its own.
        own_kernels: Each ConvAttn has a large kernel of its own (Table 3).
        dynamic: ConvAttns have dynamic kernels (Table 3).
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
    n_attn: int = 1
    own_kernels: bool = False
    dynamic: bool = True

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range or two of them do not fit each other.
        """
        least = {
            "scale": 1,
            "n_blocks": 0,
            "n_convattn": 0,
            "window": 1,
            "heads": 1,
            "unshuffle": 1,
            "n_attn": 0,
        }
        checks = {
            **{
                f"{name} {getattr(self, name)} is not a whole number from {size}": getattr(self, name) >= size
                for name, size in least.items()
            },
            f"expansions {self.first_expansion}, {self.expansion} leave no channels": self.dim
            * min(self.first_expansion, self.expansion)
            >= 1,
            f"kernel {self.kernel} is not odd, from 3": self.kernel % 2 == 1 and self.kernel >= 3,
            f"pdim {self.pdim} is not between 4 and dim {self.dim}": 4 <= self.pdim <= self.dim,
            f"dim {self.dim} is not a multiple of heads {self.heads}": self.dim % self.heads == 0,
            f"skip {self.skip!r} is none of {', '.join(SKIPS)}": self.skip in SKIPS,
            f"upsampler {self.upsampler!r} is none of {', '.join(UPSAMPLERS)}": self.upsampler in UPSAMPLERS,
            "a decomposed kernel is shared, and has a dynamic one with it": not self.decomposed
            or (self.dynamic and not self.own_kernels),
        }
        for problem, fine in checks.items():
            if not fine:
                raise ValueError(problem)

    @property
    def depth(self) -> int:
        """Blocks N."""
        return self.n_blocks

    def at_depth(self, depth: int) -> "ESCConfig":
        """The same with so many blocks."""
        return replace(self, n_blocks=depth)
