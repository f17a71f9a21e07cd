"""Settings of a recipe as texts: `key=value` of the command line, and TOML."""

import ast
import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TypeVar, get_args, get_origin, get_type_hints

from esc_sr.errors import UsageError
from esc_sr.train.recipes.base import Recipe

Kind = TypeVar("Kind", bound=Recipe)


def override(recipe: Kind, settings: Sequence[str], config: Path | None = None) -> Kind:
    """Replace fields of a recipe by `key=value` texts, as the command line gives them, and by a file.

    Args:
        recipe: what to change.
        settings: of several for one field the last holds, before the file.
        config: a .toml file of fields, for example one that `to_toml` wrote.

    Raises:
        UsageError: no such field, a value of the wrong type or out of range, or a file that cannot be read,
            or is of another recipe.
    """
    types = get_type_hints(type(recipe))
    allowed = [field.name for field in fields(recipe) if field.name != "name"]
    changes: dict[str, object] = {}
    for key, value in (_read(config, recipe) if config else {}).items():
        if key not in allowed:
            raise UsageError(f"{config}: has {key}, which is none of {', '.join(allowed)}")
        changes[key] = _convert(f"{config}: {key} = {value!r}", value, types[key])
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or key not in allowed:
            raise UsageError(f"--set {setting}: write key=value with one of {', '.join(allowed)}")
        value = text if types[key] is str else _evaluate(text)
        changes[key] = _convert(f"--set {setting}", value, types[key])
    return replace(recipe, **changes)  # type: ignore[arg-type]


def to_toml(recipe: Recipe) -> str:
    """All fields of a recipe as lines of TOML, which `override` reads."""
    values = (
        (key, list(value) if isinstance(value, tuple) else value) for key, value in asdict(recipe).items()
    )
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values)


def _read(config: Path, recipe: Recipe) -> dict[str, object]:
    """What a file says of the recipe's fields; its name has to be the recipe's, if it is there."""
    try:
        content = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{config}: cannot be read as TOML ({reason}); --print-config shows one") from error
    if content.pop("name", recipe.name) != recipe.name:
        raise UsageError(
            f"{config}: is of another recipe than {recipe.name}; use that one, or take its name out"
        )
    return content


def _evaluate(text: str) -> object:
    """The number or the numbers that a text stands for; any other text as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _convert(given: str, value: object, wanted: type) -> object:
    """A value as an int, float, str or tuple of these; `given` is what an error names."""
    if get_origin(wanted) is tuple:
        kinds = get_args(wanted)
        values = value if isinstance(value, tuple | list) else (value,)
        if kinds[-1] is not Ellipsis and len(values) != len(kinds):
            raise UsageError(f"{given}: {len(kinds)} numbers needed, written like 0.9,0.99")
        return tuple(_convert(given, item, kinds[0]) for item in values)
    if wanted is str:
        if not isinstance(value, str):
            raise UsageError(f"{given}: must be a text")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float) if wanted is float else int):
        raise UsageError(f"{given}: must be {'a whole number' if wanted is int else 'a number'}")
    return float(value) if wanted is float else value
