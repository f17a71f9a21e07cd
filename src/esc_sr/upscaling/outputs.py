"""Where outputs may go: formats, files and folders that can be written, and names that are no mistake."""

import os
from collections.abc import Collection, Hashable, Sequence
from pathlib import Path

from esc_sr.errors import ImageError, UsageError
from esc_sr.image import FORMATS, READ_ONLY, format_of
from esc_sr.remote import Address
from esc_sr.upscaling.places import Place, check_writable, exists, is_folder, is_one_of


def has_to_be_folder(name: str, output: Place, inputs: Sequence[Place]) -> bool:
    """Whether an output, called so, is a folder, which it may yet have to become."""
    return len(inputs) > 1 or any(map(is_folder, inputs)) or is_folder(output) or name.endswith(("/", os.sep))


def check_format(format: str | None) -> None:
    """Refuse a format that is none of `FORMATS`, by the suffix without its dot.

    Raises:
        UsageError: It is none.
    """
    if format is not None and f".{format.lower()}" not in FORMATS:
        raise UsageError(f"no format is called {format!r}; use {', '.join(suffix[1:] for suffix in FORMATS)}")


def check_output(output: Place, as_folder: bool, format: str | None) -> None:
    """Refuse an output that cannot become the folder or the file that it has to be.

    Raises:
        UsageError: It is the other of the two, no picture by its name, or of another format.
        ImageError: Its folder is missing or read-only.
    """
    if as_folder and exists(output) and not is_folder(output):
        raise UsageError(f"{output}: a file, but the output has to be a folder here; name another")
    if not as_folder:
        if output.suffix.lower() not in FORMATS:
            raise UsageError(
                f"{output}: neither a folder (ends in /) nor a picture (ends in {', '.join(FORMATS)})"
            )
        if format is not None and format_of(output.name) != FORMATS[f".{format.lower()}"]:
            raise UsageError(f"{output}: not the name of a {format} file; leave out one of the two")
    in_store = as_folder and isinstance(output, Address)  # where a folder is nothing that has to be there
    check_writable(output if in_store or is_folder(output) else output.parent)


def suffix_of_output(source: Place) -> str:
    """The suffix that an output has by default: that of the input, or of a PNG where none such is written."""
    return ".png" if source.suffix.lower() in READ_ONLY else source.suffix


def check_target(
    target: Place, taken: Collection[Hashable], overwrite: bool, there: bool | None = None
) -> None:
    """Refuse a target that must not, or cannot, be written.

    Args:
        target: The output.
        taken: The identity of all inputs.
        overwrite: It may exist.
        there: Whether it does, if that is known.

    Raises:
        UsageError: It is of a kind that can only be read.
        ImageError: It is an input, it exists, or its folder is read-only.
    """
    if isinstance(target, Address) and not target.store.writable:
        raise UsageError(f"{target}: can only be read; name another output, with -o")
    if is_one_of(target, taken):
        raise ImageError(
            f"{target}: is an input itself, and inputs are never overwritten; name another output"
        )
    if not overwrite and (exists(target) if there is None else there):
        raise ImageError(f"{target}: exists already; --overwrite replaces it")
    if isinstance(target, Path) and there is not False and target.exists() and not target.is_file():
        raise ImageError(f"{target}: not a regular file; name another output")
    if isinstance(target, Path) and target.parent.is_dir():
        check_writable(target.parent)
