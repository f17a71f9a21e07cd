"""Pieces of the enlarged video, each encoded by itself, from which the whole is put together.

A piece begins with a key frame and knows nothing of those before it, so it is the same whoever makes it when.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from esc_sr.errors import VideoError
from esc_sr.video.coding import Settings

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.video.stream import VideoStream

_KINDS = ("nut", "mov")  # keep times in any unit; the second is for what the first does not hold


@dataclass(frozen=True)
class Segment:
    """A piece that is done.

    Attributes:
        path: Its packets, in a file of a container that keeps their times.
        pts: The times of its frames, ascending, in units of the stream.
        depth: How many packets a packet may come before its turn to be shown.
        repeated: How many of its frames are equal to the one before, and were not computed.
    """

    path: Path
    pts: tuple[int, ...]
    depth: int
    repeated: int


class SegmentWriter:
    """Encodes the frames of a piece."""

    def __init__(self, path: Path, settings: Settings) -> None:
        """Open a file and an encoder.

        Raises:
            VideoError: The encoder refuses, or the file cannot be written.
        """
        import av

        self.path, self._settings = path, settings
        self._pts: list[int] = []
        self._order: list[int] = []
        for kind in _KINDS:
            try:
                self._container = av.open(f"file:{path}", "w", format=kind)
            except (OSError, av.error.FFmpegError) as error:
                raise VideoError(f"cannot write {path}: {error.strerror}") from error
            try:
                self._stream = settings.add_to(self._container)
                return
            except ValueError:
                self._container.close()
            except BaseException:
                self._container.close()
                raise
        raise VideoError(f"{settings.encoder}: its packets cannot be kept; choose another encoder")

    def add(self, frame: "VideoFrame", pts: int) -> None:
        """Encode the next frame.

        Raises:
            VideoError: The encoder refuses, or the disk does.
        """
        frame.pts, frame.time_base = pts, self._settings.time_base
        frame.pict_type = 0
        self._pts.append(pts)
        self._mux(frame)

    def finish(self, repeated: int) -> Segment:
        """Encode what the encoder still holds, and close the file.

        Raises:
            VideoError: As `add`, or the encoder lost frames.
        """
        self._mux(None)
        self.close()
        if sorted(self._order) != self._pts:
            raise VideoError(f"{self._settings.encoder} changed the times of frames; choose another encoder")
        rank = {pts: place for place, pts in enumerate(self._pts)}
        depth = max(place - rank[pts] for place, pts in enumerate(self._order))
        return Segment(self.path, tuple(self._pts), depth, repeated)

    def close(self) -> None:
        """Close the file, whatever is in it.

        Raises:
            VideoError: The disk refuses.
        """
        import av

        try:
            self._container.close()
        except (OSError, av.error.FFmpegError) as error:
            raise VideoError(f"cannot write {self.path}: {error.strerror}") from error

    def _mux(self, frame: "VideoFrame | None") -> None:
        """Encode a frame, or what is left, and write the packets."""
        import av

        try:
            for packet in self._stream.encode(frame):
                assert packet.pts is not None
                self._order.append(packet.pts)
                self._container.mux(packet)
        except (OSError, av.error.FFmpegError) as error:
            raise VideoError(f"cannot write {self.path}: {error.strerror}") from error


def packets_of(segments: Sequence[Segment], unit: Fraction, end: int) -> Iterator["Packet[VideoStream]"]:
    """The packets of all pieces in the order of a file, with times to decode and durations.

    Times to decode are those of showing, moved back by as many frames as any packet comes early: encoders
    make them for each piece alone, and where frames are not evenly spaced those of two pieces would overlap.

    Args:
        segments: In their order.
        unit: Seconds of a unit of time.
        end: When the last frame ends.
    """
    import av

    shown = list(chain.from_iterable(segment.pts for segment in segments))
    until = {pts: later - pts for pts, later in pairwise([*shown, max(end, shown[-1] + 1)])}
    depth = max(segment.depth for segment in segments)
    step = shown[1] - shown[0] if len(shown) > 1 else 1
    decoded = [shown[0] - step * early for early in range(depth, 0, -1)] + shown
    place = 0
    for segment in segments:
        with av.open(f"file:{segment.path}", "r") as container:
            late = None  # a piece begins at 0, in units that may be halves of ours
            for packet in container.demux(video=0):
                if packet.pts is None:
                    continue
                pts = int(packet.pts * packet.time_base / unit)
                late = pts - segment.pts[0] if late is None else late
                packet.pts = pts - late
                packet.dts, packet.duration, packet.time_base = decoded[place], until[packet.pts], unit
                place += 1
                yield packet
    if place != len(shown):
        raise VideoError(f"{segments[0].path.parent}: pieces in it are damaged; --overwrite begins anew")
