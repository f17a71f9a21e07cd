"""Compiled kernels for CPUs: there if a C++ compiler was, when esc-sr was installed; never needed.

The environment variable `ESC_SR_NATIVE` says which instructions they use: `auto` (the best that the processor
has, the default), `avx512`, `avx2`, `generic`, or `off`.
"""

from esc_sr.native.attention import attend, can_attend
from esc_sr.native.library import LEVELS, available, describe, level

__all__ = ["LEVELS", "attend", "available", "can_attend", "describe", "level"]
