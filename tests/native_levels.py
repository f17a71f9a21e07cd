"""Which levels of the compiled kernels this processor has."""

import pytest

from esc_sr import native
from esc_sr.native import library

needs_library = pytest.mark.skipif(library.load()[0] is None, reason=f"native kernels: {library.load()[1]}")
_LIBRARY = library.load()[0]
LEVELS = [name for name in native.LEVELS if _LIBRARY and _LIBRARY.esc_sr_has_level(name.encode())]
ROUNDING = [name for name in LEVELS if _LIBRARY and _LIBRARY.esc_sr_rounds(name.encode())]
"""Those of them that have products of bfloat16."""

needs_rounding = pytest.mark.skipif(
    not ROUNDING, reason="this processor has no AVX512-BF16, or the kernels do not"
)
