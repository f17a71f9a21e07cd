"""Compiled kernels for CPUs: there if a C++ compiler was, when esc-sr was installed; never needed.

The environment variable `ESC_SR_NATIVE` says which instructions they use: `auto` (the best that the processor
has, the default), `amx`, `avx512`, `avx2`, `generic`, or `off`.
"""

from esc_sr.native.attention import attend, attend_windows
from esc_sr.native.convolution import LARGEST, conv3x3, depthwise_conv, large_conv, pointwise, takes_onto
from esc_sr.native.decoder import Places, decode
from esc_sr.native.ffn import feed_forward
from esc_sr.native.library import (
    DTYPES,
    LEVELS,
    VARIABLE,
    available,
    describe,
    level,
    looked_on,
    takes,
    transformed,
    without,
)
from esc_sr.native.processor import multiplies

__all__ = [
    "DTYPES",
    "LARGEST",
    "LEVELS",
    "VARIABLE",
    "Places",
    "attend",
    "attend_windows",
    "available",
    "conv3x3",
    "decode",
    "depthwise_conv",
    "describe",
    "feed_forward",
    "large_conv",
    "level",
    "multiplies",
    "pointwise",
    "looked_on",
    "takes",
    "takes_onto",
    "transformed",
    "without",
]
