"""A video through the network, frame by frame, into pieces and from these into one file."""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esc_sr.errors import UsageError, VideoError
from esc_sr.machine.claim import Claim
from esc_sr.upscaling import FractionDone
from esc_sr.video.clip import Clip, Damage, Frames, Span
from esc_sr.video.coding import Coding, Settings, choose, container_of, keeps_light, options_for
from esc_sr.video.folder import MOST_THREADS, WorkFolder, threads_of
from esc_sr.video.look import depth, from_rgb, halves, has_alpha, to_rgb
from esc_sr.video.rehearsal import rehearse
from esc_sr.video.remux import write_video
from esc_sr.video.segments import Segment, SegmentWriter

if TYPE_CHECKING:
    from esc_sr.upscaling.engine import Upscaler

PIECE_BYTES = 2**30
"""Of the frames of a piece, which lie on the disk until it is done, where a frame takes long."""

_PIECE_FRAMES = (24, 240)
_KEPT_AFTER = 0.5  # seconds that a frame took from which on it is kept
_AHEAD = 2
_END = object()

FramePixels = NDArray[Any]
"""A frame as `look.to_rgb` gives it."""


class VideoPlan(NamedTuple):
    """What becomes of a video.

    Attributes:
        clip: The input.
        span: Which part of it.
        target: The output.
        kind: Its container, as FFmpeg calls it.
        settings: How the frames are encoded.
        length: How many of them make a piece.
        notes: What is changed or left out, in a line each.
    """

    clip: Clip
    span: Span
    target: Path
    kind: str
    settings: Settings
    length: int
    notes: list[str]


@dataclass
class VideoStatus:
    """How far a run is.

    Attributes:
        done: Of the part, 0 to 1; None where the file does not tell how long it is.
        frames: Frames that are done, those of an earlier run too.
        computed: Frames that went through the network in this run.
        repeated: Frames that were equal to the one before.
        taken: Frames that an earlier run had done.
        saved: Frames that would not be computed again if the run ended now.
        rate: Frames a second in this run; None until it has come to the first that is not done.
    """

    done: float | None = 0.0
    frames: int = 0
    computed: int = 0
    repeated: int = 0
    taken: int = 0
    saved: int = 0
    rate: float | None = None


class VideoResult(NamedTuple):
    """What was done: the counts at the end, what was damaged, and notes in a line each."""

    status: VideoStatus
    damage: Damage
    notes: list[str]


def plan_video(
    clip: Clip, target: Path, upscaler: "Upscaler", coding: Coding, span: Span = Span()
) -> VideoPlan:
    """Decide how the frames of a video are enlarged and encoded, before any work.

    Raises:
        UsageError: The size, the container, the encoder or one of its options cannot be had.
    """
    kind, look, notes = container_of(target), clip.look, []
    encoder, format = choose(coding, look, kind)
    height, width = upscaler.size.target(look.height, look.width)
    upscaler.gives(look.height, look.width)
    down, across = halves(format)
    even = height - height % down, width - width % across
    if min(even) < 1:
        raise UsageError(f"{width} x {height} is too small for {format}; ask for a larger size")
    if even != (height, width):
        notes.append(
            f"{format} has even sizes only: of {width} x {height}, the last "
            f"{_cut(height - even[0], width - even[1])} cut off"
        )
    larger = look.enlarged(*even, format)
    notes += _losses(clip, encoder, format)
    threads = threads_of(target) or min(os.cpu_count() or 1, MOST_THREADS)
    frame = even[0] * even[1] * 3 * (2 if look.deep else 1)
    settings = Settings(
        encoder,
        larger,
        options_for(coding, encoder, larger, threads),
        clip.time_base,
        clip.rate,
        kind != "mpegts",
        threads,
    )
    least, most = _PIECE_FRAMES
    return VideoPlan(clip, span, target, kind, settings, min(max(PIECE_BYTES // frame, least), most), notes)


def _cut(rows: int, columns: int) -> str:
    """What is cut off, in words."""
    parts = [*["row"] * (rows == 1), *[f"{rows} rows"] * (rows > 1)]
    parts += [*["column"] * (columns == 1), *[f"{columns} columns"] * (columns > 1)]
    return f"{' and '.join(parts)} {'is' if rows + columns == 1 else 'are'}"


def _losses(clip: Clip, encoder: str, format: str) -> Iterator[str]:
    """What of the frames the encoder does not hold, in words."""
    look = clip.look
    if look.interlaced:
        yield "interlaced: each frame is two half pictures, which a network blurs; deinterlace it first"
    if depth(format) < depth(look.format):
        yield f"{encoder} has no {look.format}: {depth(look.format)} bits become {depth(format)}"
    if has_alpha(look.format) and not has_alpha(format):
        yield f"{encoder} has no transparency: it is lost; -o NAME.mov keeps it"
    if (look.mastering or look.light) and not keeps_light(encoder):
        yield f"{encoder} is not told what display this was graded for; libx265 is"
    for name in look.lost:
        yield f"left out: {name}, which was made for the smaller picture"


def facts_of(plan: VideoPlan, network: dict[str, Any]) -> dict[str, Any]:
    """Everything that the result depends on, as JSON holds it.

    Args:
        plan: What becomes of the video.
        network: What the enlarging depends on.
    """
    import av

    from esc_sr import __version__

    clip, settings = plan.clip, plan.settings
    source = clip.path.stat()
    return {
        "version": __version__,
        "libraries": {name: list(number) for name, number in av.library_versions.items()},
        "input": [source.st_size, source.st_mtime_ns],
        "part": [str(side) for side in plan.span],
        "network": network,
        "size": [settings.look.width, settings.look.height],
        "format": settings.look.format,
        "encoder": settings.encoder,
        "options": {key: value for key, value in settings.options.items() if "-params" not in key},
        "parameters": [value.split(":") for key, value in settings.options.items() if "-params" in key],
        "container": plan.kind,
        "piece": plan.length,
        "threads": settings.threads,
    }


def upscale_video(
    plan: VideoPlan,
    upscaler: "Upscaler",
    network: dict[str, Any],
    overwrite: bool = False,
    progress: Callable[[VideoStatus], object] = lambda status: None,
    notify: Callable[[str], object] = lambda text: None,
) -> VideoResult:
    """Enlarge a video; goes on where an earlier run was broken off.

    While the network is at a frame, the next are read and the last is encoded, by other threads.

    Args:
        plan: What becomes of it.
        upscaler: The network.
        network: What its results depend on; a folder of an earlier run with another is refused.
        overwrite: Replace an output, and begin anew, once: a run that was begun so goes on as any other.
        progress: Is told many times how far it is.
        notify: Is told where an earlier run is taken up.

    Raises:
        VideoError: The input or the output cannot be used, or another process is making the output.
        WeightsError: The network gives values that are not finite.
        DeviceError: Neither memory nor disk suffices.
    """
    try:
        claim = Claim(plan.target)
    except OSError as error:
        raise VideoError(f"cannot write {plan.target}: {error.strerror}") from error
    with closing(claim):
        folder = WorkFolder(plan.target, facts_of(plan, network), anew=overwrite)
        if taken := sum(len(segment.pts) for segment in folder.known.values()):
            notify(f"goes on after {taken} frames that are done in {folder.path}")
        work, clip, notes = _Work(plan, upscaler, folder, progress), plan.clip, list(plan.notes)
        try:
            rehearse(folder.path, clip, plan.span, plan.settings, plan.kind)
            segments = work.run()
            if not segments:
                raise VideoError(f"{clip.path}: no frame in this part; it ends earlier")
        except BaseException:
            if not folder.holds:
                folder.clear()
            raise
        write_video(claim.part, clip, plan.span, segments, plan.settings, plan.kind, notes.append)
        try:
            claim.part.flush()
            claim.publish(overwrite)
        except OSError as error:
            raise VideoError(f"cannot write {plan.target}: {error.strerror}") from error
        folder.clear()
        return VideoResult(work.status, work.frames.damage, notes)


class _Work:
    """The frames of a video on their way into pieces."""

    def __init__(
        self,
        plan: VideoPlan,
        upscaler: "Upscaler",
        folder: WorkFolder,
        progress: Callable[[VideoStatus], object],
    ) -> None:
        self.frames = Frames(plan.clip, plan.span)
        self.status = VideoStatus()
        self._plan, self._upscaler, self._folder, self._progress = plan, upscaler, folder, progress
        self._alpha = has_alpha(plan.settings.look.format) and has_alpha(plan.clip.look.format)
        self._before: tuple[FramePixels, FramePixels] | None = None
        self._repeated = 0
        self._begun: float | None = None

    def run(self) -> list[Segment]:
        """Make all pieces that are not there."""
        pieces = dict(self._folder.known)
        writer: SegmentWriter | None = None
        place = 0
        with ThreadPoolExecutor(1) as encoding, closing(_ahead(self._read())) as frames:
            last: Future[None] = encoding.submit(lambda: None)
            try:
                for index, pts, pixels in frames:
                    if index // self._plan.length != place:
                        last.result()
                        self._finish(place, writer, pieces)
                        place, writer = index // self._plan.length, None
                    if pixels is None:
                        self._take(index, pts, pieces[place])
                        continue
                    writer = writer or self._begin(place)
                    result, slow = self._enlarged(index, pts, pixels)
                    last.result()
                    last = encoding.submit(self._encode, writer, index if slow else None, result, pts)
                last.result()
                self._finish(place, writer, pieces)
                writer = None
            finally:
                last.exception()
                if writer is not None:
                    with suppress(VideoError):  # what went wrong before counts
                        writer.close()
        return [pieces[place] for place in sorted(pieces)]

    def _read(self) -> Iterator[tuple[int, int, FramePixels | None]]:
        """Number, time and pixels of each frame; without pixels where it is done."""
        for index, frame in enumerate(self.frames):
            assert frame.pts is not None
            done = index // self._plan.length in self._folder.known
            yield index, frame.pts, None if done else to_rgb(frame, self._plan.clip.look, self._alpha)

    def _begin(self, place: int) -> SegmentWriter:
        """Begin a piece."""
        settings = self._plan.settings
        self._before, self._repeated = None, 0
        return SegmentWriter(self._folder.packets(place), settings)

    def _finish(self, place: int, writer: SegmentWriter | None, pieces: dict[int, Segment]) -> None:
        """End a piece, if it was not there."""
        if writer is not None:
            pieces[place] = writer.finish(self._repeated)
            self._folder.done(place, pieces[place])
            self.status.saved = self.status.frames

    def _take(self, index: int, pts: int, piece: Segment) -> None:
        """Count a frame that was done."""
        at = index % self._plan.length
        if at >= len(piece.pts) or piece.pts[at] != pts:
            raise VideoError(f"{self._folder.path}: not of this video as it is now; remove the folder")
        self.status.taken += 1
        self.status.saved += 1
        self.status.frames += 1
        self.status.repeated += piece.repeated if at == 0 else 0
        self._tell(pts)

    def _enlarged(self, index: int, pts: int, pixels: FramePixels) -> tuple[FramePixels, bool]:
        """A frame through the network, unless it is that before, or was kept; and whether it took long."""
        before = self._before
        start = time.monotonic()
        self._begun, slow = self._begun or start, False
        if before is not None and np.array_equal(before[0], pixels):
            self._repeated += 1
            self.status.repeated += 1
            result = before[1]
        else:
            kept = self._folder.kept(index)
            result = self._computed(pts, pixels) if kept is None else kept
            slow = kept is None and time.monotonic() - start > _KEPT_AFTER
            self.status.taken += kept is not None
            self.status.saved += kept is not None
        self._before = pixels, result
        self.status.frames += 1
        self._tell(pts)
        return result, slow

    def _computed(self, pts: int, pixels: FramePixels) -> FramePixels:
        """A frame through the network."""
        result = self._upscaler.upscale(pixels, self._part(pts))
        look = self._plan.settings.look
        result = result[: look.height, : look.width]
        self.status.computed += 1
        return result

    def _encode(self, writer: SegmentWriter, index: int | None, pixels: FramePixels, pts: int) -> None:
        """Keep a frame, if it has a number, and encode it."""
        if index is not None:
            self._folder.keep(index, pixels)
            self.status.saved += 1
        writer.add(from_rgb(pixels, self._plan.settings.look), pts)

    def _part(self, pts: int) -> FractionDone:
        """Takes how much of a frame is done."""
        clip = self._plan.clip
        length = 1 / (clip.rate * clip.time_base)
        return lambda done: self._tell(pts + float((done - 1) * length))

    def _tell(self, pts: float) -> None:
        """Say how far it is, by the time of what is done."""
        begin, end = self._plan.clip.limits(self._plan.span)
        status = self.status
        status.done = min(max((pts - begin) / max(end - begin, 1), 0.0), 1.0) if end else None
        if self._begun is not None:
            status.rate = (status.frames - status.taken) / max(time.monotonic() - self._begun, 1e-9)
        self._progress(status)


def _ahead(items: Iterator[Any]) -> Generator[Any, None, None]:
    """The items of an iterator, of which another thread makes some before they are asked for."""
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1) as reader:
        try:
            while True:
                while len(waiting) <= _AHEAD:
                    waiting.append(reader.submit(next, items, _END))
                item = waiting.popleft().result()
                if item is _END:
                    return
                yield item
        finally:
            reader.shutdown(wait=True, cancel_futures=True)
