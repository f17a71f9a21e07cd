"""Where outputs may go: formats, files and folders that can be written, and names that are no mistake."""

import os
from collections.abc import Sequence
from pathlib import Path

from esc_sr.errors import ImageError, UsageError
from esc_sr.image import FORMATS, READ_ONLY, format_of, identity


def is_folder(output: str, inputs: Sequence[Path]) -> bool:
    """Whether an output is a folder, which it may yet have to become."""
    return (
        len(inputs) > 1
        or any(map(os.path.isdir, inputs))
        or os.path.isdir(output)
        or output.endswith(("/", os.sep))
    )


def check_format(format: str | None) -> None:
    """Refuse a format that is none of `FORMATS`, by the suffix without its dot.

    Raises:
        UsageError: It is none.
    """
    if format is not None and f".{format.lower()}" not in FORMATS:
        raise UsageError(f"no format is called {format!r}; use {', '.join(suffix[1:] for suffix in FORMATS)}")


def check_output(output: Path, as_folder: bool, format: str | None) -> None:
    """Refuse an output that cannot become the folder or the file that it has to be.

    Raises:
        UsageError: It is the other of the two, no picture by its name, or of another format.
        ImageError: Its folder is missing or read-only.
    """
    if as_folder and os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"{output}: a file, but the output has to be a folder here; name another")
    if not as_folder:
        if output.suffix.lower() not in FORMATS:
            raise UsageError(
                f"{output}: neither a folder (ends in /) nor a picture (ends in {', '.join(FORMATS)})"
            )
        if format is not None and format_of(output) != FORMATS[f".{format.lower()}"]:
            raise UsageError(f"{output}: not the name of a {format} file; leave out one of the two")
    _check_folder(output if os.path.isdir(output) else output.parent)


def suffix_of_output(source: Path) -> str:
    """The suffix that an output has by default: that of the input, or of a PNG where none such is written."""
    return ".png" if source.suffix.lower() in READ_ONLY else source.suffix


def _check_folder(folder: Path) -> None:
    """Refuse a folder in which nothing can be written."""
    if not os.path.isdir(folder):
        raise ImageError(f"{folder}: no such folder; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ImageError(f"{folder}: no permission to write in this folder; name another output")


def check_target(target: Path, taken: set[tuple[int, int]], overwrite: bool) -> None:
    """Refuse a target that must not, or cannot, be written; `taken` is the identity of all inputs.

    Raises:
        ImageError: It is an input, it exists, or its folder is read-only.
    """
    if target.exists() and identity(target) in taken:
        raise ImageError(
            f"{target}: is an input itself, and inputs are never overwritten; name another output"
        )
    if os.path.lexists(target) and not overwrite:
        raise ImageError(f"{target}: exists already; --overwrite replaces it")
    if target.parent.is_dir():
        _check_folder(target.parent)
