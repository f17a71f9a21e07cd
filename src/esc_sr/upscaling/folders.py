"""Which picture files the inputs of a run stand for."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from esc_sr.errors import EscError, ImageError, UsageError
from esc_sr.image import FORMATS, format_of, picture_files


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


def find_inputs(inputs: Sequence[Path], output: Path | None) -> tuple[list[Found], list[Problem]]:
    """Find the picture files that the inputs stand for, each once, and what is wrong with the others.

    Args:
        inputs: Files, and folders, of which all `image.picture_files` are taken.
        output: A folder that is not entered, unless it is an input.
    """
    found: dict[Path, Found] = {}
    problems: list[Problem] = []
    for given in inputs:
        try:
            for picture in _pictures(given, output, problems):
                found.setdefault(picture.path, picture)
        except EscError as error:
            problems.append(Problem(given, str(error)))
        except OSError as error:
            problems.append(Problem(given, f"{given}: cannot be read ({error.strerror})"))
    return list(found.values()), problems


def _pictures(given: Path, output: Path | None, problems: list[Problem]) -> list[Found]:
    """The picture files of a folder, or the file itself."""

    def unreadable(error: OSError) -> None:
        problems.append(Problem(Path(error.filename), f"{error.filename}: cannot be read ({error.strerror})"))

    if given.is_dir():
        known = len(problems)
        files = list(picture_files(given, without=output, unreadable=unreadable))
        if not files and len(problems) == known:
            raise UsageError(f"{given}: no picture in this folder; {', '.join(FORMATS)} are read")
        return [Found(path, path.parent.relative_to(given), False) for path in files]
    if not given.is_file():
        raise ImageError(f"{given}: no such file or folder")
    format_of(given)
    return [Found(given, Path(), True)]
