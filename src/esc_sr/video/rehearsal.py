"""A file of one black frame, made as the whole will be: what cannot be written is known beforehand."""

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from esc_sr.errors import VideoError
from esc_sr.video.clip import Clip, Span
from esc_sr.video.coding import Settings
from esc_sr.video.look import from_rgb
from esc_sr.video.remux import write_video
from esc_sr.video.segments import SegmentWriter

_SECONDS = 1


def rehearse(folder: Path, clip: Clip, span: Span, settings: Settings, kind: str) -> None:
    """Encode one frame, write it with a second of all else of the input, and read that again.

    Args:
        folder: Where a piece may lie for a moment.
        clip: The input.
        span: Which part of it will be enlarged.
        settings: How frames will be encoded.
        kind: The container, as FFmpeg calls it.

    Raises:
        VideoError: The encoder or the container refuses.
    """
    start = span.start or Fraction(0)
    look = settings.look
    writer = SegmentWriter(folder / "rehearsal.piece", settings)
    try:
        black = np.zeros((look.height, look.width, 3), np.uint16 if clip.look.deep else np.uint8)
        writer.add(from_rgb(black, look), clip.limits(span)[0])
        segment = writer.finish(0)
        with TemporaryFile() as file:
            write_video(
                file, clip, Span(span.start, start + _SECONDS), [segment], settings, kind, lambda note: None
            )
    except VideoError as error:
        raise VideoError(f"{error}; {settings.encoder} in {kind} does not work for this input") from error
    finally:
        writer.close()
        writer.path.unlink(missing_ok=True)
