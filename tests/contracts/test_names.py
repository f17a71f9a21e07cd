"""One name for one thing: modules are where their imports say, and what is public is shown and told."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

import esc_sr

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
MODULES = [
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(SOURCE.rglob("*.py"))
    if path.name != "__main__.py"
]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_where_its_import_says(name: str) -> None:
    module = import_module(name)
    assert reduce(getattr, name.split(".")[1:], esc_sr) is module


def test_public_names_are_shown_and_told() -> None:
    assert dir(esc_sr) == sorted(esc_sr.__all__)
    page = (ROOT / "docs" / "api.md").read_text()
    for name in esc_sr.__all__:
        assert getattr(esc_sr, name)
        assert f"esc_sr.{name}" in page
    assert callable(esc_sr.upscale) and callable(esc_sr.resize)
    assert not hasattr(esc_sr, "no_such_name")


def test_public_names_are_imported_when_they_are_used() -> None:
    there = "print('torch' in sys.modules)"
    script = f"import sys, esc_sr; dir(esc_sr); {there}; esc_sr.resize; {there}"
    ended = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True
    )
    assert ended.stdout.split() == ["False", "True"], ended.stderr


def types_of(path: Path) -> Iterator[str]:
    """The classes and type aliases that a module makes."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and "TypeVar(" not in ast.unparse(node.value):
            yield from (name.id for name in node.targets if isinstance(name, ast.Name))


def test_a_type_has_a_name_of_its_own() -> None:
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(SOURCE.rglob("*.py")):
        for name in types_of(path):
            if re.fullmatch(r"[A-Z][A-Za-z]*[a-z][A-Za-z0-9]*", name):
                homes[name].append(str(path.relative_to(SOURCE)))
    assert len(homes) > 50
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}
