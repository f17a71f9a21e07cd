"""The kernels are built where a compiler can, and nothing is left where it cannot."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="the compilers here are shell scripts"),
    pytest.mark.skipif(importlib.util.find_spec("setuptools") is None, reason="setuptools is not installed"),
]

WORKS = 'for last; do [ "$before" = -o ] && echo library > "$last"; before=$last; done; echo "$@" >> log'
FAILS_AT_A_LEVEL = f'case "$*" in *level_generic.cpp*) exit 1;; esac; {WORKS}'
KNOWS_NO_AMX = f'case "$*" in *-mamx*) exit 1;; esac; {WORKS}'
FAILS_HALF_LINKED = f'{WORKS}; case "$*" in *-shared*) exit 1;; esac'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """setup.py and the sources of the kernels, without what was built from them."""
    shutil.copy(ROOT / "setup.py", tmp_path)
    native = Path("src", "esc_sr", "native")
    shutil.copytree(
        ROOT / native, tmp_path / native, ignore=shutil.ignore_patterns("_kernels*", "__pycache__")
    )
    return tmp_path


def build(project: Path, script: str | None) -> str:
    """Build in place by a compiler that is a shell script, or none; return what was said."""
    compiler = project / "compiler"
    compiler.unlink(missing_ok=True)
    if script is not None:
        compiler.write_text(f"#!/bin/sh\n{script}\n")
        compiler.chmod(0o755)
    names = {"CC": str(compiler), "CXX": str(compiler), "LDSHARED": f"{compiler} -shared"}
    run = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=project,
        env={**os.environ, **names},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def libraries(project: Path) -> list[Path]:
    return [path for path in (project / "src").rglob("*") if "_kernels" in path.name]


def test_each_level_has_its_own_instructions(project: Path) -> None:
    build(project, WORKS)
    (library,) = libraries(project)
    assert library.read_text() == "library\n"
    commands = {name: line for line in (project / "log").read_text().splitlines() for name in line.split()}
    levels = {level: commands[f"src/esc_sr/native/{level}.cpp"] for level in ("level_generic", "library")}
    assert all("-mavx" not in line for line in levels.values())
    if platform.machine() == "x86_64":
        assert "-mavx512f" in commands["src/esc_sr/native/level_avx512.cpp"]
        assert "-mavx512f" not in commands["src/esc_sr/native/level_avx2.cpp"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="no level here has instructions of its own")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("level", ["generic", "avx2"])
def test_levels_stay_apart_where_all_is_compiled_for_one_processor(project: Path, level: str) -> None:
    build(project, WORKS)
    (line,) = (line for line in (project / "log").read_text().splitlines() if f"level_{level}.cpp" in line)
    command = ["g++", "-march=skylake-avx512", "-fsyntax-only", *line.split()]
    run = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(platform.machine() != "x86_64", reason="no level here has instructions of its own")
def test_a_compiler_that_does_not_know_a_level_leaves_it_out(project: Path) -> None:
    build(project, KNOWS_NO_AMX)
    assert libraries(project)
    lines = (project / "log").read_text().splitlines()
    (amx,) = (line for line in lines if "-c src/esc_sr/native/level_amx.cpp" in line)
    assert "-mavx" not in amx


@pytest.mark.parametrize("script", [None, "exit 1", FAILS_AT_A_LEVEL, FAILS_HALF_LINKED])
def test_without_a_working_compiler_nothing_is_left(project: Path, script: str | None) -> None:
    build(project, WORKS)
    assert libraries(project)
    assert "failed" in build(project, script)
    assert not libraries(project)
