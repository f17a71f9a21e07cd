"""Which picture files the inputs of a run stand for."""

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from esc_sr.errors import EscError, ImageError, UsageError
from esc_sr.image import is_special, other_kind, picture_files, require_readable


class Found(NamedTuple):
    """A picture file.

    Attributes:
        path: Where it is.
        below: Its folder, seen from the input folder in which it was found.
        named: It was an input itself.
    """

    path: Path
    below: Path
    named: bool


class Problem(NamedTuple):
    """An input, or a folder in it, that cannot be used, and why, in one line."""

    path: Path
    reason: str


def local_path(name: str) -> Path:
    """The path that a name stands for: as it is, or of a file:// address.

    Raises:
        UsageError: An address of another kind; nothing is downloaded.
    """
    if not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", name):
        return Path(name)
    address = urlsplit(name)
    if address.scheme.lower() != "file" or address.netloc not in ("", "localhost"):
        raise UsageError(f"{name}: an address, and only files on this machine are read; download it first")
    return Path(url2pathname(address.path))


class Inputs(NamedTuple):
    """What the inputs of a run stand for.

    Attributes:
        found: Picture files, each once.
        problems: What is wrong with the others.
        others: How many files in the folders are no pictures, by their kind (`image.other_kind`).
    """

    found: list[Found]
    problems: list[Problem]
    others: Counter[str]


def expand(inputs: Sequence[str | Path]) -> tuple[list[Path], list[Problem]]:
    """Take what is text for a path, a file:// address, or a pattern such as `*.png` that no shell expanded.

    Returns:
        Paths, those of a pattern sorted; and the texts that stand for nothing here.
    """
    paths: list[Path] = []
    problems: list[Problem] = []
    for given in inputs:
        try:
            path = local_path(given) if isinstance(given, str) else given
        except UsageError as error:
            problems.append(Problem(Path(given), str(error)))
            continue
        if isinstance(given, Path) or os.path.lexists(path) or not glob.has_magic(str(path)):
            paths.append(path)
        elif matches := sorted(glob.glob(str(path), recursive=True)):
            paths.extend(map(Path, matches))
        else:
            problems.append(Problem(path, f"{path}: no file has a name like this"))
    return paths, problems


def find_inputs(inputs: Sequence[Path], output: Path | None) -> Inputs:
    """Find the picture files that the inputs stand for.

    Args:
        inputs: Files, and folders, of which all `image.picture_files` are taken.
        output: A folder that is not entered, unless it is an input.
    """
    found: dict[Path, Found] = {}
    problems: list[Problem] = []
    others: set[Path] = set()
    for given in inputs:
        try:
            for picture in _pictures(given, output, problems, others):
                found.setdefault(picture.path, picture)
        except EscError as error:
            problems.append(Problem(given, str(error)))
        except OSError as error:
            problems.append(Problem(given, f"{given}: cannot be read ({error.strerror})"))
    return Inputs(list(found.values()), problems, Counter(map(other_kind, sorted(others))))


def _pictures(given: Path, output: Path | None, problems: list[Problem], others: set[Path]) -> list[Found]:
    """The picture files of a folder, or the file itself."""

    def unreadable(error: OSError) -> None:
        problems.append(Problem(Path(error.filename), f"{error.filename}: cannot be read ({error.strerror})"))

    if given.is_dir():
        known = len(problems), len(others)
        files = list(picture_files(given, without=output, unreadable=unreadable, other=others.add))
        if not files and (len(problems), len(others)) == known:
            raise UsageError(f"{given}: no picture in this folder; name one that holds some")
        return [Found(path, path.parent.relative_to(given), False) for path in files]
    if is_special(given):
        raise ImageError(f"{given}: a pipe or device; send it into standard input, which is -")
    if not given.is_file():
        raise ImageError(f"{given}: {'a broken link' if given.is_symlink() else 'no such file or folder'}")
    require_readable(given)
    return [Found(given, Path(), True)]
