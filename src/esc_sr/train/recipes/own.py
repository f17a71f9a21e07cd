"""A recipe in a user's own file, named FILE.py:NAME."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from esc_sr.errors import UsageError
from esc_sr.train.recipes.base import Recipe


def load_own(place: str) -> Recipe:
    """Make the recipe of a file, which runs it as `python FILE.py` would, its folder's modules at hand.

    Args:
        place: FILE.py:NAME, where NAME is a recipe, a subclass of one, or a function that returns one.

    Returns:
        The recipe, called by the file's own name and NAME.

    Raises:
        UsageError: there is no such file or name in it, it is no recipe, or the file's code raises an error.
    """
    file, _, name = place.rpartition(":")
    path = Path(file).absolute()
    if path.suffix != ".py" or not name:
        raise UsageError(f"--recipe {place}: write FILE.py:NAME")
    if not path.is_file():
        raise UsageError(f"--recipe {place}: there is no file {file}")
    try:
        found = getattr(_module(path), name, None)
        recipe = found() if callable(found) else found
    except UsageError as error:
        raise UsageError(f"--recipe {place}: {error}") from error
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UsageError(f"--recipe {place}: {file} raises {type(error).__name__}: {reason}") from error
    if not isinstance(recipe, Recipe):
        kind = "not in it" if found is None else "no recipe, but of type " + type(recipe).__name__
        raise UsageError(f"--recipe {place}: {name} is {kind}; name a subclass of Recipe, or one made of it")
    return replace(recipe, name=f"{path.name}:{name}")


def _module(path: Path) -> ModuleType:
    """The module of a file, under its own name, by which processes that read ahead find it too."""
    known = sys.modules.get(path.stem)
    if known:
        if getattr(known, "__file__", None) != str(path):
            raise UsageError(f"there is a module {path.stem} already; give the file another name")
        return known
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module
