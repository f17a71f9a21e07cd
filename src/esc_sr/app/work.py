"""What the server does with a picture: look at its header, enlarge it or a part of it, show it."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from esc_sr.app.job import AppJob, Asked, CancelledError
from esc_sr.app.limits import Limits, RefusalError
from esc_sr.errors import ImageError
from esc_sr.image import (
    ANIMATED,
    FORMATS,
    READ_ONLY,
    Animation,
    Encoding,
    decode_header,
    decode_image,
    encode_image,
    format_of,
    kind_of,
    read_blocks,
    suffix_kind,
    what_first,
)
from esc_sr.machine.claim import whole_file
from esc_sr.upscaling import DEFAULT_MODEL, DEFAULT_SCALE
from esc_sr.upscaling.engine import Upscaler
from esc_sr.upscaling.files import Job, claim_target, enlarge, read_source, write_result
from esc_sr.upscaling.names import Names
from esc_sr.upscaling.outputs import check_format, suffix_of_output
from esc_sr.upscaling.sizes import Size
from esc_sr.upscaling.work import work_of
from esc_sr.weights import ADVICE, bundled, bundled_scales, family_of, files_of, is_weak

PREVIEW_SIDE = 200
"""The longest side of a preview, in pixels of the picture."""

_HALO = 32  # pixels that the network sees around a preview
_SHOWN = ("png", "jpeg", "webp", "gif", "avif")  # by every browser
_LONGEST_NAME = 120
_LEAST_BYTES = 3  # of a pixel of a result: grey becomes RGB in some formats


@cache
def models() -> dict[str, list[int]]:
    """The bundled networks by name, best first, with the scales that each has; none if it has any.

    Weak weights are no network of their own here: `denoise` mixes them with the strong ones.
    """
    families = {family_of(stem) for stem, _, _ in bundled() if not is_weak(stem)}
    known = [name for name in ADVICE if name in families]
    return {name: bundled_scales(name) for name in (*known, *sorted(families - {*known}))}


def shown_name(name: str) -> str:
    """What a picture is called, without folders and what file systems or terminals stumble over."""
    last = re.split(r"[/\\]", name)[-1]
    clean = "".join(letter if letter.isprintable() else "_" for letter in last)
    path = PurePosixPath(re.sub(r'[<>:"|?*]', "_", clean).strip(". ") or "picture")
    return f"{path.stem[:_LONGEST_NAME]}{path.suffix[:8]}"


def look(
    source: Path,
    name: str,
    model: str | None,
    size: Size | None,
    format: str | None,
    limits: Limits,
    denoise: float | None = None,
) -> Asked:
    """Decide by a picture's header what becomes of it.

    Args:
        source: The file that came.
        name: What the client calls it.
        model: Bundled name; by default `DEFAULT_MODEL`.
        size: What it becomes; by default the model's only scale, or 2.
        format: Suffix of the result without its dot; by default that of the picture, or png.
        limits: How much is taken.
        denoise: As of `esc_sr.upscale`.

    Raises:
        UsageError: No such format or mixture, or the picture cannot have the size.
        RefusalError: No such model, no picture, or one that is too large.
    """
    name, model = shown_name(name), model or DEFAULT_MODEL
    if model not in (known := models()):
        raise RefusalError(400, f"no model is called {model!r}; there are {', '.join(known)}")
    scales = known[model]
    size = size or Size("scale", scales[0] if len(scales) == 1 else DEFAULT_SCALE)
    check_format(format)
    if denoise is not None:
        files_of(model, None, denoise)  # or refuses
    data = source.read_bytes()
    kind = kind_of(data)
    with _refusing(415):
        if kind is None and (first := what_first(suffix_kind(Path(name)))):
            raise ImageError(f"{name}: {suffix_kind(Path(name))}; {first}")
        frames, height, width, pixel = decode_header(memoryview(data), name)
    name = name if _is_picture(name) else f"{name}{_suffix(kind)}"
    suffix = f".{format.lower()}" if format else suffix_of_output(Path(name))
    target = Names(size=size, model=model).of(Path(name), suffix)
    shown = frames if format_of(target) in ANIMATED else 1
    tall, wide = size.target(height, width)
    work = work_of(shown, height, width)
    for pixels, most in ((work, limits.pixels), (shown * tall * wide, limits.result_pixels)):
        if pixels > most:
            sides = f"{shown} x {width} x {height}" if shown > 1 else f"{width} x {height}"
            raise RefusalError(
                413,
                f"{name}: {sides} to {wide} x {tall} pixels, which count as {pixels}; "
                f"at most {most} are taken here",
            )
    reserved = len(data) + max(pixel, _LEAST_BYTES) * shown * tall * wide
    return Asked(name, target, model, size, (height, width), reserved, denoise)


def upscale(job: AppJob, device: str) -> None:
    """Do a job: the result has the bytes that `esc-sr upscale` writes.

    Raises:
        RefusalError: The picture cannot be read, or the disk refuses.
        EscError: The result cannot be had, or the device is too small.
        CancelledError: Nobody wants it any more.
    """
    asked = job.asked
    task = Job(Path(asked.name), job.target, job.source.read_bytes())
    upscaler = Upscaler(
        asked.model, asked.size, device, notify=job.note, report=job.note, denoise=asked.denoise
    )
    with _refusing(415):
        picture = read_source(task, True, job.note)
    job.progress(0)
    result = enlarge(task, picture, upscaler, job.progress)
    with _refusing(507), closing(claim_target(task)) as claim:
        write_result(task, result, claim, False, Encoding(), job.note)
    if kept := [block.upper() for block in read_blocks(job.target) if getattr(picture.frames[0], block)]:
        job.note(f"kept: {', '.join(kept)}")


class Box(NamedTuple):
    """A part of a picture in pixels.

    Attributes:
        left: First column.
        top: First row.
        width: In pixels.
        height: In pixels.
    """

    left: int
    top: int
    width: int
    height: int

    def within(self, sides: tuple[int, int], longest: int) -> "Box":
        """Its middle, inside a picture of some height and width, with sides that are not longer."""
        left, width = _within(self.left, self.width, sides[1], longest)
        top, height = _within(self.top, self.height, sides[0], longest)
        return Box(left, top, width, height)


def preview(job: AppJob, box: Box, device: str, cancelled: Callable[[], bool]) -> bytes:
    """A part of a picture, enlarged at once, and nearly as it will be: what is far away has no say in it.

    Args:
        job: Which picture.
        box: Which part, that lies within it.
        device: Where to compute.
        cancelled: Whether nobody wants it any more.

    Returns:
        The bytes of a PNG.

    Raises:
        RefusalError: The picture cannot be read.
        EscError: The device is too small.
        CancelledError: Nobody wants it any more.
    """
    if cancelled():
        raise CancelledError
    height, width = job.asked.sides
    scale = job.asked.size.scale(height, width)
    left, top = max(box.left - _HALO, 0), max(box.top - _HALO, 0)
    data = job.source.read_bytes()
    with _refusing(415):
        picture = decode_image(data, job.asked.name, allow_large=True, notify=_ignore)
    part = replace(
        picture,
        pixels=picture.pixels[top : box.top + box.height + _HALO, left : box.left + box.width + _HALO],
    )
    del picture

    def progress(done: float) -> None:
        if cancelled():
            raise CancelledError

    asked = job.asked
    upscaler = Upscaler(asked.model, Size("scale", scale), device, notify=_ignore, denoise=asked.denoise)
    large = upscaler.upscale(part, progress)
    first, column = round((box.top - top) * scale), round((box.left - left) * scale)
    high, wide = round(box.height * scale), round(box.width * scale)
    cut = replace(large, pixels=large.pixels[first : first + high, column : column + wide])
    return encode_image(Animation([cut], [], 0), "png", Encoding(), _ignore)


def view(file: Path, name: str) -> tuple[Path, str]:
    """A file that browsers show with this picture, and its type; made beside it if it has to be.

    Raises:
        RefusalError: The picture cannot be read, or the disk refuses.
        OSError: The file is gone, or the disk refuses.
    """
    with open(file, "rb") as opened:
        kind = kind_of(opened.read(2**16))
    if kind in _SHOWN:
        return file, f"image/{kind}"
    shown = file.with_name(f"{file.name}.view.png")
    if not shown.exists():
        data = file.read_bytes()
        with _refusing(415):
            picture = decode_image(data, name, allow_large=True, notify=_ignore)
        with _refusing(507), whole_file(shown) as part:
            part.write(encode_image(Animation([picture], [], 0), "png", Encoding(), _ignore))
    return shown, "image/png"


@contextmanager
def _refusing(status: int) -> Iterator[None]:
    """Give what fails of a picture file a status of HTTP."""
    try:
        yield
    except ImageError as error:
        raise RefusalError(status, error) from error


def _within(start: int, length: int, side: int, longest: int) -> tuple[int, int]:
    """First pixel and length of the middle of a stretch, inside of a side."""
    start, end = max(start, 0), min(start + length, side)
    length = max(min(end - start, longest, side), 1)
    start = min(max((start + end - length) // 2, 0), side - length)
    return start, length


def _is_picture(name: str) -> bool:
    """Whether a name ends as those of pictures do."""
    return Path(name).suffix.lower() in {**FORMATS, **READ_ONLY}


def _suffix(kind: str | None) -> str:
    """How names of such pictures end."""
    return next(suffix for suffix, format in {**FORMATS, **READ_ONLY}.items() if format == kind)


def _ignore(text: str) -> None:
    """A `notify` for what only has to be looked at."""
