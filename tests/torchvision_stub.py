"""A stand-in for what spandrel imports of torchvision, where that is not to be had beside this torch."""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec

import pytest

NAMES = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")


def import_spandrel(patch: pytest.MonkeyPatch) -> None:
    """Import spandrel, of which two networks for faces use torchvision; skips where spandrel is missing."""
    if find_spec("spandrel") is None or find_spec("einops") is None:
        pytest.skip("needs spandrel and einops, which scripts/install brings without torchvision")
    try:
        import_module(NAMES[-1])
    except Exception:  # missing, or made for another torch, which raises what it likes
        modules = [module_from_spec(ModuleSpec(name, None)) for name in NAMES]
        for name in ("InterpolationMode", "normalize", "rotate"):
            setattr(modules[-1], name, None)
        for name, module in zip(NAMES, modules, strict=True):
            patch.setitem(sys.modules, name, module)
    import_module("spandrel")
