"""Where the enlarged video goes."""

from pathlib import Path

from esc_sr.errors import UsageError
from esc_sr.image import identity
from esc_sr.upscaling.names import Names
from esc_sr.upscaling.outputs import check_target
from esc_sr.upscaling.sizes import Size
from esc_sr.video.coding import container_of, suffix_for


def find_target(source: Path, output: str | None, size: Size, overwrite: bool) -> Path:
    """The output of a video: beside it by default, as `clip_2x.mp4`; or in a folder, or a file of any name.

    Raises:
        UsageError: It is no video by its name, or its folder is missing.
        ImageError: It is the input, it exists, or its folder is read-only.
    """
    name = Names(size=size).of(source, suffix_for(source))
    target = source.with_name(name) if output is None else Path(output)
    if output is not None and (target.is_dir() or output.endswith("/")):
        target = target / name
    container_of(target)
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent}: no such folder; make it first")
    check_target(target, {identity(source)}, overwrite)
    return target
