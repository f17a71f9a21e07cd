"""The published sizes, by name and scale: only what differs from ESC (Supp. 6.1 to 6.3, Table 3)."""

from collections.abc import Mapping
from dataclasses import replace

from esc_sr.families.esc.config import ESCConfig

_ESC = ESCConfig()
_REAL = replace(_ESC, n_blocks=10, expansion=2.0, ffn_norm=True, skip="conv", upsampler="realesrgan")
_XL = replace(_ESC, dim=192, pdim=48, n_blocks=8, window=48, heads=12, ffn_norm=True)

_FP = replace(_ESC, dim=48, heads=3, first_expansion=1.5, ffn_norm=True, decomposed=True, skip="bicubic")
_REAL_M = replace(_REAL, upsampler="nearest+conv")
_ONLY_ATTN = replace(_ESC, n_attn=2, n_convattn=0, pdim=64, expansion=2.0)
_ONLY_CONVATTN = replace(_ESC, n_blocks=7, n_convattn=6, kernel=17, n_attn=0, window=1, heads=1)


def _at(config: ESCConfig, *scales: int) -> dict[int, ESCConfig]:
    """The sizes at some scales."""
    return {scale: replace(config, scale=scale) for scale in scales}


ABLATIONS: Mapping[str, Mapping[int, ESCConfig]] = {
    "esc-only-attn": _at(_ONLY_ATTN, 2, 3, 4),
    "esc-only-convattn": _at(_ONLY_CONVATTN, 2, 3, 4),
    "esc-lk9": _at(replace(_ESC, kernel=9), 2, 3, 4),
    "esc-lk17": _at(replace(_ESC, kernel=17), 2, 3, 4),
    "esc-own-lk-no-dk": _at(replace(_ESC, own_kernels=True, dynamic=False), 2, 3, 4),
    "esc-own-lk": _at(replace(_ESC, own_kernels=True), 2, 3, 4),
    "esc-ws16": _at(replace(_ESC, window=16, n_convattn=7), 2, 3, 4),
    "esc-ws24": _at(replace(_ESC, window=24, n_convattn=6), 2, 3, 4),
}
"""The rows of Table 3, in its order; what means nothing to a network is as `detect.infer` has it.

Deviation: the paper does not say how many layers the first two and the last two have; with these, parameters
and MACs are those printed.
"""

PRESETS: Mapping[str, Mapping[int, ESCConfig]] = {
    "esc": _at(_ESC, 2, 3, 4),
    "esc-light": _at(replace(_ESC, n_blocks=3), 2, 3, 4),
    "esc-fp": _at(_FP, 2, 3, 4),
    "esc-xl": _at(_XL, 2, 3, 4),
    "esc-real": _at(_REAL, 4),
    "esc-real-m": {1: replace(_REAL_M, scale=1, unshuffle=4), 2: replace(_REAL_M, unshuffle=2)}
    | _at(_REAL_M, 3, 4),
    "esc-real-xl": _at(replace(_REAL, dim=128, pdim=32, n_blocks=16, heads=8), 4),
    **ABLATIONS,
}
