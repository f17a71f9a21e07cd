"""Which files in a folder are pictures: the same for whatever is done with them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from esc_sr.image.others import is_readable


def is_picture(path: PurePath) -> bool:
    """Whether a file is taken for a picture: `is_readable` by its suffix, and no part of its path is hidden.

    Args:
        path: From the folder or archive in which it was found.
    """
    return is_readable(path) and not any(part.startswith(".") for part in path.parts)


def picture_files(
    folder: Path,
    *,
    deep: bool = True,
    without: Path | None = None,
    unreadable: Callable[[OSError], object] | None = None,
    other: Callable[[Path], object] = lambda path: None,
) -> Iterator[Path]:
    """Walk through the pictures of a folder, as `is_picture` tells them.

    Links are followed, but no folder is entered twice.

    Args:
        folder: Where to look; one that is missing holds none.
        deep: Its subfolders as well, unless they are hidden.
        without: A folder that is not entered, unless it is this one.
        unreadable: Is told of folders that cannot be listed, which are left out.
        other: Is told of each file that is no picture, and of broken links, unless they are hidden.

    Yields:
        Files, those of each folder sorted, before those of its subfolders.
    """
    entered = {identity(without)} if without is not None and without.is_dir() else set()
    for root, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        here = Path(root)
        if identity(here) in entered and here != folder:  # a link that leads back, or what is left out
            folders.clear()
            continue
        entered.add(identity(here))
        folders[:] = sorted(name for name in folders if deep and not name.startswith("."))
        for name in sorted(names):
            if is_picture(PurePath(name)) and os.path.isfile(here / name):
                yield here / name
            elif not name.startswith("."):
                other(here / name)


def identity(path: Path) -> tuple[int, int]:
    """What two names of one file or folder have in common."""
    status = path.stat()
    return status.st_dev, status.st_ino
