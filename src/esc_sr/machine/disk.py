"""What a disk makes of the names of files."""

import os
import unicodedata
from functools import cache
from pathlib import Path


def name_on_disk(path: Path) -> str:
    """A text that is the same for all names under which a disk finds one file, which may be new.

    Args:
        path: Absolute, its folder without links.
    """
    return unicodedata.normalize("NFC", str(path)).casefold() if _folds_case(path.parent) else str(path)


@cache
def _folds_case(folder: Path) -> bool:
    """Whether names in a folder, or in the nearest above it that is there, may differ in case and be one."""
    known = folder
    try:
        with os.scandir(folder) as entries:
            paths = (Path(entry.path) for entry in entries)
            known = next((path for path in paths if path.name != path.name.swapcase()), folder)
    except OSError:
        pass  # new, or not to be listed
    if known.name == known.name.swapcase() or not known.exists():
        return folder != folder.parent and _folds_case(folder.parent)
    try:
        return os.path.samefile(known, known.with_name(known.name.swapcase()))
    except OSError:
        return False
