"""Each module imports only what stands above it, and the house rules that a machine can see."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "esc_sr"
MODULES = sorted(SOURCE.rglob("*.py"))

ORDER = (
    "errors",
    "machine",
    "native",
    "network",
    "families",
    "paper",
    "weights",
    "spandrel",
    "runtimes",
    "export",
    "engines",
    "image",
    "remote",
    "bicubic",
    "metrics",
    "niqe",
    "record",
    "figure",
    "upscaling",
    "data",
    "evaluate",
    "cluster",
    "train",
    "benchmark",
    "analysis",
    "app",
    "video",
    "cli",
)
"""What may import what: only names further left, and a package its own modules."""

DEPENDENCIES = {"torch", "numpy", "safetensors", "pyvips", "typer", "rich"}  # rich comes with typer


def layer(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each imported module by its full name, and whether it is imported at the top of the file."""
    tree = ast.parse(path.read_text())
    top = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from ((name, node in top) for name in names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_upwards(path: Path) -> None:
    mine = layer(path)
    if mine in ("__init__", "__main__"):
        return
    allowed = {*ORDER[: ORDER.index(mine) + 1], "__version__"}
    for name, _ in imports(path):
        if name.startswith("esc_sr."):
            assert name.split(".")[1] in allowed, f"{mine} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_core_dependencies_at_the_top(path: Path) -> None:
    for name, at_top in imports(path):
        package = name.split(".")[0]
        known = package in {"esc_sr", *DEPENDENCIES} or package in sys.stdlib_module_names
        assert known or not at_top, f"{name}: optional, import it in the function that needs it"


def test_every_module_has_its_place() -> None:
    assert {layer(path) for path in MODULES} == {*ORDER, "__init__", "__main__"}


@pytest.mark.parametrize("mine", ["network", "families"])
def test_networks_are_torch_only(mine: str) -> None:
    above = tuple(f"esc_sr.{name}" for name in (mine, "network", "native", "errors"))
    for path in (SOURCE / mine).rglob("*.py"):
        for name, _ in imports(path):
            package = name.split(".")[0]
            assert package in {"torch", "esc_sr", "mamba_ssm"} or package in sys.stdlib_module_names, (
                f"{path.name}: {name}"
            )
            assert not name.startswith("esc_sr.") or name.startswith(above), f"{path.name}: {name}"
        assert not re.search(r"\b(print|open)\(|pathlib", path.read_text()), path.name


def test_files_stay_small() -> None:
    kernels = [*SOURCE.rglob("*.cpp"), *SOURCE.rglob("*.h")]
    files = [*MODULES, *kernels, *(ROOT / "tests").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    too_long = {path.name: n for path in files if (n := len(path.read_text().splitlines())) > 400}
    assert too_long == {}
