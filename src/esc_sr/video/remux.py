"""The finished file: the enlarged frames, and all else of the input as it was."""

import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

from esc_sr.errors import VideoError
from esc_sr.video.clip import Clip, Span, opened, video_stream
from esc_sr.video.coding import Settings, describe
from esc_sr.video.segments import Segment, packets_of
from esc_sr.video.verify import verify

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

_STALE = (
    *("encoder", "rotate", "duration", "bps", "number_of_", "_statistics_"),
    *("major_brand", "minor_version", "compatible_brands"),
)
"""How the names of metadata begin that tell of the old file, in lower case."""

_APART = 10  # seconds by which packets of one time may lie apart in a file

_OPTIONS = {"mpegts": {"mpegts_copyts": "1"}}  # times would be moved by 1.4 s


def write_video(
    part: BinaryIO,
    clip: Clip,
    span: Span,
    segments: Sequence[Segment],
    settings: Settings,
    kind: str,
    notify: Callable[[str], object],
) -> None:
    """Put the enlarged frames and the other streams of the input into one file.

    Sound, subtitles, other pictures, attachments, chapters and metadata are copied without decoding. Of a
    part of a video, what begins with its first frame or later is taken, and that frame is at 0.

    Args:
        part: The file, open for writing.
        clip: The input.
        span: Which part of it was enlarged.
        segments: The enlarged frames.
        settings: How they were encoded.
        kind: The container, as FFmpeg calls it.
        notify: Is told, in one line, what the container does not hold.

    Raises:
        VideoError: The file cannot be written, or does not say the same when it is read again.
    """
    import av

    last, file = segments[-1].pts[-1], _Unbuffered(part)
    _, end = clip.limits(span)
    end = last + 1 if end is None or end <= last else end
    shift = segments[0].pts[0] if span.start else 0
    try:
        with (
            opened(clip.path) as source,
            av.open(file, "w", format=kind, options=_movflags(kind, source)) as out,
        ):
            first = av.open(f"file:{segments[0].path}", "r")
            with first:
                video = out.add_stream_from_template(first.streams.video[0], opaque=True)
                _finish_video(video, clip, source, settings, kind)
                copies = _Copies(clip, source, out, span, shift * clip.time_base, notify)
                out.start_encoding()
            assert video.time_base is not None
            if (clip.time_base / video.time_base).denominator != 1:
                notify(f"{kind} counts time in {video.time_base} s: times are rounded to that")
            packets = ((video, packet) for packet in packets_of(segments, clip.time_base, end))
            moved = (_moved(stream, packet, shift) for stream, packet in packets)
            refused = 0
            for stream, packet in heapq.merge(moved, copies.packets(), key=_when):
                packet.stream = stream
                try:
                    out.mux(packet)
                except (av.error.ArgumentError, av.error.InvalidDataError):
                    if file.error is not None:
                        raise
                    refused += 1  # that no frame is missing is verified
            if refused:
                notify(f"left out: {refused} damaged packets of other streams")
            metadata = _kept(source.metadata)
    except ValueError as error:
        raise VideoError(str(error)) from error
    except (OSError, av.error.FFmpegError) as error:
        cause = file.error or error
        raise VideoError(f"cannot write the {kind} file: {cause.strerror or cause}") from error
    finally:
        file.close()
    times = [(pts - shift) * clip.time_base for segment in segments for pts in segment.pts]
    verify(part, times, metadata, notify)


class _Unbuffered:
    """A file without a buffer, that keeps the error of the disk: it does not come through FFmpeg."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = open(os.dup(file.fileno()), "r+b", buffering=0)
        self.error: OSError | None = None
        self.tell, self.seek, self.read = self._file.tell, self._file.seek, self._file.read
        self.close = self._file.close

    def write(self, data: bytes) -> int:
        """Write all, or keep the error."""
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.error = error
            raise
        return len(data)


def _movflags(kind: str, source: "InputContainer") -> dict[str, str]:
    """Options of a muxer."""
    apple = any(key.startswith("com.") for key in source.metadata)
    if kind in ("mp4", "mov") and apple:
        return {"movflags": "use_metadata_tags"}
    return dict(_OPTIONS.get(kind, {}))


def _finish_video(
    video: "VideoStream", clip: Clip, source: "InputContainer", settings: Settings, kind: str
) -> None:
    """Tell the stream of the enlarged frames what the old one told."""
    old = video_stream(source, clip.path)
    describe(video, settings.look)
    video.codec_context.framerate = clip.rate
    video.time_base = clip.time_base
    video.set_display_matrix(settings.look.orientation)
    video.disposition = old.disposition
    video.metadata.update(_kept(old.metadata))
    if kind in ("mp4", "mov") and settings.encoder == "libx265":
        video.codec_context.codec_tag = "hvc1"  # with hev1 Apple's players show nothing


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    """Metadata that is still true."""
    return {key: value for key, value in metadata.items() if not key.lower().startswith(_STALE)}


def _moved(stream: Any, packet: Any, shift: int) -> tuple[Any, Any]:
    """A packet, earlier by some units."""
    packet.pts -= shift
    packet.dts -= shift
    return stream, packet


def _when(item: tuple[Any, Any]) -> Fraction:
    """When a packet has to be there, in seconds."""
    _, packet = item
    time = packet.dts if packet.dts is not None else packet.pts
    return Fraction(time) * packet.time_base


class _Copies:
    """The streams of the input that go along, and their packets."""

    def __init__(
        self,
        clip: Clip,
        source: "InputContainer",
        out: "OutputContainer",
        span: Span,
        shift: Fraction,
        notify: Callable[[str], object],
    ) -> None:
        """Add a stream to the output for each that goes along, and chapters and metadata.

        Args:
            clip: The input.
            source: The input, open.
            out: The output, open.
            span: Which part of it was enlarged.
            shift: Seconds by which everything becomes earlier.
            notify: Is told what is left out.
        """
        self._clip, self._source, self._span, self._shift = clip, source, span, shift
        self._copied: dict[int, Any] = {}
        shown = video_stream(source, clip.path).index
        for stream in source.streams:
            if stream.index == shown:
                continue
            try:
                self._add(stream, out)
            except (ValueError, NotImplementedError) as error:
                name = stream.codec_context.name if stream.codec_context else "unknown"
                notify(f"left out: {stream.type} stream {stream.index} ({name}): {error}; .mkv holds most")
        out.metadata.update(_kept(source.metadata))
        out.set_chapters(list(self._chapters()))

    def _add(self, stream: "Stream", out: "OutputContainer") -> None:
        """Add a stream like one of the input.

        Raises:
            ValueError: The container does not hold it.
        """
        from av.stream import AttachmentStream, Disposition

        if isinstance(stream, AttachmentStream):
            if out.format.name != "matroska":
                raise ValueError(f"{out.format.name} has no attachments")
            out.add_attachment(stream.name or "", stream.mimetype or "", stream.data)
            return
        if stream.type == "data":
            if "timecode" in stream.metadata:  # the video has it, too
                return
            raise ValueError("data streams belong to the file they are in")
        if stream.disposition & Disposition.attached_pic and out.format.name == "matroska":
            self._attach(stream, out)
            return
        copy = out.add_stream_from_template(stream, opaque=True)
        copy.metadata.update(_kept(stream.metadata))
        copy.disposition = stream.disposition
        self._copied[stream.index] = copy

    def _attach(self, stream: "Stream", out: "OutputContainer") -> None:
        """Attach a cover picture, which Matroska keeps so."""
        with opened(self._clip.path) as again:
            packet = next(again.demux(again.streams[stream.index]))
            kind = stream.metadata.get("mimetype") or f"image/{stream.codec_context.name.replace('mj', 'j')}"
            name = stream.metadata.get("filename") or f"cover.{kind.removeprefix('image/')[:3]}"
            out.add_attachment(name, kind, bytes(packet))

    def _chapters(self) -> Iterator[Any]:
        """The chapters that are in the part, as early as it is."""
        start, end = self._span.start or Fraction(0), self._span.end
        base = self._clip.origin * self._clip.time_base if self._span != Span() else Fraction(0)
        for chapter in self._source.chapters():
            unit = chapter["time_base"] or Fraction(1, 1000)
            begins, ends = (chapter[side] * unit for side in ("start", "end"))
            if self._span != Span():
                if ends <= base + start or (end is not None and begins >= base + end):
                    continue
                begins = max(begins, base + start)
                ends = ends if end is None else min(ends, base + end)
            shifted = {"start": begins - self._shift, "end": ends - self._shift}
            yield chapter | {side: round(time / unit) for side, time in shifted.items()}

    def packets(self) -> Iterator[tuple[Any, "Packet[Any]"]]:
        """Their packets, in the order of the file, with the streams that they go to."""
        if not self._copied:
            return
        chosen = [self._source.streams[index] for index in self._copied]
        origin = self._clip.origin * self._clip.time_base
        begin, end = self._shift - origin if self._span.start else None, self._span.end
        for packet in self._source.demux(chosen):
            if packet.size and packet.stream.disposition & _attached():
                packet.pts = packet.dts = 0
                yield self._copied[packet.stream.index], packet
                continue
            time = packet.pts if packet.pts is not None else packet.dts
            if time is None:
                continue
            seconds = time * packet.time_base - origin
            if end is not None and seconds >= end + _APART:
                return
            if (begin is not None and seconds < begin) or (end is not None and seconds >= end):
                continue
            less = round(self._shift / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - less
            packet.dts = None if packet.dts is None else packet.dts - less
            yield self._copied[packet.stream.index], packet


def _attached() -> int:
    """The mark of a stream that is a cover picture."""
    from av.stream import Disposition

    return int(Disposition.attached_pic)
