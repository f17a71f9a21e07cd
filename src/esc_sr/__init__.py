"""esc-sr: image super-resolution with ESC."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esc_sr.resize import resize
    from esc_sr.upscale.engine import Upscaler, upscale
    from esc_sr.weights import load

__all__ = ["Upscaler", "__version__", "load", "resize", "upscale"]
__version__ = "0.1.0"

_HOMES = {
    "Upscaler": "esc_sr.upscale.engine",
    "load": "esc_sr.weights",
    "resize": "esc_sr.resize",
    "upscale": "esc_sr.upscale.engine",
}


class _Package(ModuleType):
    """Imports torch only when a function is used, and keeps `esc_sr.resize` the function, not the module."""

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        function = getattr(import_module(_HOMES[name]), name)
        setattr(self, name, function)
        return function

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):  # the import system binds submodules here
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
