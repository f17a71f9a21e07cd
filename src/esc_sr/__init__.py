"""esc-sr: image super-resolution with ESC.

Imports nothing: `__main__` comes after it, and until that has run, Ctrl-C shows a traceback.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from esc_sr.bicubic import resize
    from esc_sr.engines import load
    from esc_sr.upscaling.engine import Upscaler, upscale

__all__ = ["Upscaler", "__version__", "load", "resize", "upscale"]
__version__ = "0.1.0"

_HOMES = {
    "Upscaler": "esc_sr.upscaling.engine",
    "load": "esc_sr.engines",
    "resize": "esc_sr.bicubic",
    "upscale": "esc_sr.upscaling.engine",
}


def __getattr__(name: str) -> "Any":
    """Import what is public when it is first used, and torch with it."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(_HOMES[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
