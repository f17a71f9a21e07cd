"""What a finished file says when it is read again."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import BinaryIO

from esc_sr.errors import VideoError


def verify(
    part: BinaryIO, times: Sequence[Fraction], metadata: dict[str, str], notify: Callable[[str], object]
) -> None:
    """Read a file again, and compare the times of its frames and its metadata with what they should be.

    Args:
        part: The file, open.
        times: When its frames are shown, in seconds, ascending.
        metadata: What it should tell of itself.
        notify: Is told, in one line, of a shift that all streams share, and of metadata that is missing.

    Raises:
        VideoError: A frame is missing, or has another time.
    """
    import av
    from av.stream import Disposition

    part.seek(0)
    try:
        with av.open(part, "r", metadata_errors="replace") as file:
            stream = next(s for s in file.streams.video if not s.disposition & Disposition.attached_pic)
            found = sorted(
                packet.pts * packet.time_base for packet in file.demux(stream) if packet.pts is not None
            )
            tells = {key.lower(): value for key, value in file.metadata.items()}
            unit = stream.time_base
    except (av.error.FFmpegError, StopIteration) as error:
        raise VideoError("the finished file cannot be read again") from error
    assert unit is not None
    if len(found) != len(times):
        raise VideoError(f"the finished file has {len(found)} frames in place of {len(times)}")
    later = found[0] - times[0]
    if any(abs(seen - time - later) > unit for seen, time in zip(found, times, strict=True)):
        raise VideoError("the finished file has other times than its input; choose another container")
    if abs(later) > unit:
        notify(f"everything is {float(later):.3f} s later: this container has no times before 0")
    if missing := [key for key in metadata if key.lower() not in tells]:
        notify(f"left out: metadata {', '.join(sorted(missing))}; .mkv holds any")
