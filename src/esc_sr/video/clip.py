"""One video file to read: what it is, and its frames with their times."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from esc_sr.errors import UsageError, VideoError
from esc_sr.image import kind_of
from esc_sr.video.look import Look

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,m4v,obu,av1,ivf,"
    "yuv4mpegpipe,mxf,nut,rm,dv,wtv,vc1"
)
"""Those that read one file and nothing it points to: no playlists, no numbered pictures."""

_USUAL_RATE = 25


class Span(NamedTuple):
    """The part of a video that is wanted, in seconds from its first picture: from `start` to before `end`."""

    start: Fraction | None = None
    end: Fraction | None = None


def parse_span(start: str | None, end: str | None) -> Span:
    """A part from two texts: seconds, or hours, minutes and seconds with colons in between.

    Raises:
        UsageError: They are no such times, or nothing lies between them.
    """
    span = Span(*(None if text is None else _seconds(text) for text in (start, end)))
    if span.end is not None and span.end <= (span.start or 0):
        raise UsageError(f"--end {end} is not after {start or 'the beginning'}")
    return span


def _seconds(text: str) -> Fraction:
    """Seconds of a text such as "90", "1:30" or "0:01:30.5"."""
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        raise UsageError(f"{text!r} is no time; write seconds, or hours, minutes and seconds as 1:02:03.5")
    return sum((Fraction(part) * 60**power for power, part in enumerate(text.split(":")[::-1])), Fraction())


@dataclass
class Damage:
    """What of a video could not be decoded, or only in part.

    Attributes:
        packets: That the decoder refused.
        frames: That it marked as damaged.
        untimed: Frames with the time of the one before, which are left out.
        missing: Seconds by which the frames end before the file says they do.
    """

    packets: int = 0
    frames: int = 0
    untimed: int = 0
    missing: float = 0.0

    def __bool__(self) -> bool:
        """Whether something is damaged."""
        return bool(self.packets or self.frames or self.missing)

    def __str__(self) -> str:
        """What, in words."""
        counts = {
            f"{self.packets} packets could not be decoded": self.packets,
            f"{self.frames} frames only in part": self.frames,
            f"it ends {self.missing:.2f} s before it says it does": self.missing,
        }
        return ", ".join(text for text, count in counts.items() if count)


@dataclass(frozen=True)
class Clip:
    """A video file.

    Attributes:
        path: The file.
        look: How its frames look.
        time_base: Seconds of a unit of time.
        origin: Time of the first frame, in units.
        end: Where the last frame ends, in units, as far as the file tells.
        told: The same, where the file tells it of just these frames.
        rate: Frames a second, on average.
        count: Frames, as far as the file tells; 0 where it does not.
        codec: Name of what they are compressed by.
    """

    path: Path
    look: Look
    time_base: Fraction
    origin: int
    end: int | None
    told: int | None
    rate: Fraction
    count: int
    codec: str

    def inside(self, pts: int, span: Span) -> bool:
        """Whether a time, in units, is in a part."""
        time = (pts - self.origin) * self.time_base
        return (span.start is None or time >= span.start) and (span.end is None or time < span.end)

    def limits(self, span: Span) -> tuple[int, int | None]:
        """Where a part begins and ends, in units."""
        begin = self.origin + (span.start or 0) / self.time_base
        end = None if span.end is None else self.origin + span.end / self.time_base
        known = [int(time) for time in (end, self.end) if time is not None]
        return int(begin), min(known, default=None)


def opened(path: Path) -> "InputContainer":
    """Open a video file to read.

    Raises:
        VideoError: It cannot be read, is a picture, or none of the containers that are known.
    """
    import av

    _check_file(path)
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}
    try:
        return av.open(f"file:{path}", container_options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise VideoError(f"{path}: no video that can be read, or damaged at its beginning") from error


def video_stream(container: "InputContainer", path: Path) -> "VideoStream":
    """The stream that is shown.

    Raises:
        VideoError: There is none.
    """
    from av.stream import Disposition

    found = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not found:
        kinds = sorted({stream.type for stream in container.streams if stream.type != "video"})
        raise VideoError(f"{path}: no video in it{', only ' + ' and '.join(kinds) if kinds else ''}")
    known = [stream for stream in found if stream.codec_context is not None]
    if not known:
        raise VideoError(f"{path}: its video is compressed in a way that is not known, or damaged")
    return max(known, key=lambda stream: stream.width * stream.height)


def look_at(path: Path) -> Clip:
    """Open a video, decode its first frame, and close it.

    Raises:
        VideoError: It cannot be read, or not one frame can be decoded.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        frame = next(_decoded(container, stream, Damage()), None)
        if frame is None:
            raise VideoError(f"{path}: not one frame in it can be decoded")
        assert stream.time_base is not None
        origin = stream.start_time if stream.start_time is not None else frame.pts or 0
        told = _told_duration(container, stream)
        duration = told or stream.duration
        if duration is None and container.duration is not None:
            duration = int(Fraction(container.duration, 1_000_000) / stream.time_base)
        return Clip(
            path=path,
            look=Look.of(frame, stream),
            time_base=stream.time_base,
            origin=origin,
            end=None if duration is None else origin + duration,
            told=None if told is None else origin + told,
            rate=stream.average_rate or stream.guessed_rate or Fraction(_USUAL_RATE),
            count=stream.frames,
            codec=stream.codec_context.codec.canonical_name,
        )


@dataclass
class Frames:
    """The frames of a part of a video in the order in which they are shown; a context, and an iterator.

    Attributes:
        clip: The video.
        span: Which part.
        damage: What was found to be damaged, so far.
    """

    clip: Clip
    span: Span = Span()
    damage: Damage = field(default_factory=Damage)

    def __iter__(self) -> Iterator["VideoFrame"]:
        """Decode, each frame with its time in `pts`, which grows from frame to frame.

        Raises:
            VideoError: The file cannot be read, or its frames change their size or kind.
        """
        clip, last, lasts = self.clip, None, 0
        step = max(round(1 / (clip.rate * clip.time_base)), 1)
        with opened(clip.path) as container:
            stream = video_stream(container, clip.path)
            stream.thread_type = "AUTO"
            if self.span.start:
                container.seek(clip.limits(self.span)[0], stream=stream)
            for frame in _decoded(container, stream, self.damage):
                if frame.pts is None:
                    frame.pts = clip.origin if last is None else last + step
                if last is not None and frame.pts <= last:
                    self.damage.untimed += 1
                    continue
                last, lasts = frame.pts, frame.duration or 0
                if not clip.look.fits(frame):
                    raise VideoError(
                        f"{clip.path}: its frames become {frame.width} x {frame.height} {frame.format.name} "
                        "in between; cut it there first"
                    )
                if clip.inside(frame.pts, self.span):
                    self.damage.frames += frame.is_corrupt
                    yield frame
                elif self.span.end is not None and not clip.inside(frame.pts, Span(end=self.span.end)):
                    return
        if last is not None and clip.told is not None and last + max(lasts, 3 * step) < clip.told:
            self.damage.missing = float((clip.told - last) * clip.time_base)


def _told_duration(container: "InputContainer", stream: "VideoStream") -> int | None:
    """How long the frames of a stream last by its own account, in its units.

    Others than Matroska tell of the whole file, of what edits leave out, or what was guessed from its size.
    """
    text = next((text for key, text in stream.metadata.items() if key.upper() == "DURATION"), "")
    if "matroska" not in container.format.name or not re.fullmatch(r"\d+:\d+:\d+(\.\d+)?", text):
        return None
    assert stream.time_base is not None
    return round(_seconds(text) / stream.time_base)


def _decoded(container: "InputContainer", stream: "VideoStream", damage: Damage) -> Iterator["VideoFrame"]:
    """All frames that can be decoded; what cannot is counted."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            damage.packets += 1
            packet = None
        try:
            damage.packets += packet is not None and packet.is_corrupt
            yield from stream.decode(packet) if packet is None else packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            damage.packets += 1
        if packet is None:
            return


def _check_file(path: Path) -> None:
    """Refuse what is no file that can be read, or a picture."""
    if not path.is_file():
        what = "a folder; name one video" if path.is_dir() else "no such file"
        raise VideoError(f"{path}: {what}")
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror})") from error
    if not head:
        raise VideoError(f"{path}: an empty file")
    kind = None if head[4:8] == b"ftyp" and not _is_picture(head) else kind_of(head)
    if kind is not None:
        raise VideoError(f"{path}: a picture ({kind}); esc-sr upscale takes it")


def _is_picture(head: bytes) -> bool:
    """Whether a file of ISO's container has the brand of a picture."""
    return head[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"heim", b"heis")
