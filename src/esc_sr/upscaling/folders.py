"""Which picture files the inputs of a run stand for."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from esc_sr.errors import EscError, ImageError, UsageError
from esc_sr.image import is_picture, is_special, other_kind, picture_files, require_readable, suffix_kind
from esc_sr.remote import Address, shown
from esc_sr.upscaling.places import Place, by_name, looked_at, on_failure, place_of

_UNSAFE = frozenset("\0\\:" if os.name == "nt" else "\0")
"""What no name of a file on this machine has, since it would be another file's."""


class Found(NamedTuple):
    """A picture file.

    Attributes:
        path: Where it is.
        below: Its folder, seen from the input folder in which it was found.
        named: It was an input itself.
    """

    path: Place
    below: PurePath
    named: bool


class Problem(NamedTuple):
    """An input, or a folder in it, that cannot be used, and why, in one line."""

    path: Place | str
    reason: str


Tell = Callable[[Problem], object]
Other = Callable[[Path | str], object]


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


def expand(inputs: Sequence[str | Place]) -> tuple[list[Place], list[Problem]]:
    """Take what is text for a path, an address, or a pattern such as `*.png` that no shell expanded.

    Returns:
        Places, those of a pattern in a folder sorted; and the texts that stand for nothing.
    """
    places: list[Place] = []
    problems: list[Problem] = []
    for given in inputs:
        name: Place | str = shown(given) if isinstance(given, str) else given
        try:
            name = place_of(given) if isinstance(given, str) else given
            places += _named_in_store(name) if isinstance(name, Address) else _named_on_disk(name, given)
        except EscError as error:
            problems.append(Problem(name, str(error)))
    return places, problems


def _named_on_disk(path: Path, given: str | Place) -> list[Path]:
    """A path, or those of a pattern.

    Raises:
        ImageError: Nothing has a name like that.
    """
    if isinstance(given, Path) or os.path.lexists(path) or not glob.has_magic(str(path)):
        return [path]
    if matches := sorted(glob.glob(str(path), recursive=True)):
        return list(map(Path, matches))
    raise ImageError(f"{path}: no file has a name like this")


def _named_in_store(address: Address) -> list[Address]:
    """An address, with what its store tells of it, or those of a pattern; errors as `_named_on_disk`."""
    pattern = address.is_pattern()
    there = None if pattern and not address.store.writable else looked_at(address)
    if isinstance(there, Address):
        return [there]
    if not pattern:
        raise ImageError(f"{address}: no such file or folder")
    with on_failure(address, "cannot be listed"):
        if matches := list(address.matches()):
            return matches
    raise ImageError(f"{address}: no file has a name like this")


def find_inputs(inputs: Sequence[Place], output: Place | None) -> Inputs:
    """Find the picture files that the inputs stand for.

    Args:
        inputs: Files, and folders, of which all `image.picture_files` are taken; as of `expand`.
        output: A folder that is not entered, unless it is an input.
    """
    place = by_name()
    found: dict[Hashable, Found] = {}
    problems: list[Problem] = []
    others: set[Path] = set()
    kinds: Counter[str] = Counter()

    def other(found: Path | str) -> None:
        if isinstance(found, Path):
            others.add(found)
        else:
            kinds[found] += 1

    for given in inputs:
        for picture in pictures_of(given, output, problems.append, other):
            if picture.named or place(picture.path) not in found:
                found[place(picture.path)] = picture
    return Inputs(list(found.values()), problems, Counter(map(other_kind, sorted(others))) + kinds)


def pictures_of(given: Place, output: Place | None, problem: Tell, other: Other) -> Iterator[Found]:
    """Walk through the picture files that one input stands for.

    Args:
        given: A file or a folder, as of `expand`.
        output: A folder that is not entered, unless it is the input.
        problem: Is told what cannot be used.
        other: Is told of each file in the folder that is no picture: the path, or in a store the kind.
    """
    try:
        if isinstance(given, Address):
            yield from _pictures_in_store(given, output, other)
        else:
            yield from _pictures(given, output, problem, other)
    except EscError as error:
        problem(Problem(given, str(error)))
    except OSError as error:
        problem(Problem(given, f"{given}: cannot be read ({error.strerror})"))


def _pictures_in_store(given: Address, output: Place | None, other: Other) -> Iterator[Found]:
    """The picture files of a folder in a store, or the file itself; tells what else there is, by its kind.

    Raises:
        OSError: The store cannot be asked, or for no more.
        EscError: The file, or nothing in the folder, is a picture.
    """
    if not given.is_folder:
        require_readable(PurePosixPath(given.name), str(given))
        yield Found(given, PurePosixPath(), True)
        return
    without = output if isinstance(output, Address) and output != given else None
    empty = True
    for address in given.files():
        inside = address.below(given)
        if any(part.startswith(".") for part in inside.parts) or (without and address.is_in(without)):
            continue
        empty = False
        if not is_picture(inside):
            other(suffix_kind(inside))
        elif _UNSAFE.intersection(str(inside)):
            raise ImageError(f"{address}: a name that no file here can have; rename it")
        else:
            yield Found(address, inside.parent, False)
    if empty:
        raise UsageError(f"{given}: no picture in this folder; name one that holds some")


def _pictures(given: Path, output: Place | None, problem: Tell, other: Other) -> Iterator[Found]:
    """The picture files of a folder, or the file itself."""
    empty = True

    def unreadable(error: OSError) -> None:
        nonlocal empty
        empty = False
        problem(Problem(Path(error.filename), f"{error.filename}: cannot be read ({error.strerror})"))

    def no_picture(path: Path) -> None:
        nonlocal empty
        empty = False
        other(path)

    if given.is_dir():
        without = output if isinstance(output, Path) else None
        for path in picture_files(given, without=without, unreadable=unreadable, other=no_picture):
            empty = False
            yield Found(path, path.parent.relative_to(given), False)
        if empty:
            raise UsageError(f"{given}: no picture in this folder; name one that holds some")
        return
    if is_special(given):
        raise ImageError(f"{given}: a pipe or device; send it into standard input, which is -")
    if not given.is_file():
        raise ImageError(f"{given}: {'a broken link' if given.is_symlink() else 'no such file or folder'}")
    require_readable(given)
    yield Found(given, Path(), True)
