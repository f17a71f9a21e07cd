"""The engine: pictures in, larger pictures out."""

from collections.abc import Callable

DEFAULT_MODEL = "esc-light"
DEFAULT_SCALE = 2
DEFAULT_NAME = "{stem}_{size}"

FractionDone = Callable[[float], object]
"""Takes how much of a picture is done, 0 to 1; less than before where the picture is begun again."""
