"""Small videos that tests make, and what is in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor, nn

av = pytest.importorskip("av", reason="videos need PyAV")

UNIT = Fraction(1, 12800)
EVEN = tuple(range(0, 10 * 512, 512))
UNEVEN = (0, 512, 700, 1900, 2000, 5000, 5100, 6000, 6030, 9000)


class Twice(nn.Module):
    """Enlarges by repeating pixels: fast, and exact."""

    def forward(self, image: Tensor) -> Tensor:
        return image.repeat_interleave(2, 2).repeat_interleave(2, 3)


def moving(count: int, height: int = 24, width: int = 32, top: int = 255) -> list[NDArray[Any]]:
    """Frames with a bar that moves over a shaded ground."""
    dtype = np.uint8 if top == 255 else np.uint16
    down, across = np.mgrid[0:height, 0:width]
    ground = np.stack([across / width, down / height, 0.5 + 0 * down], 2) * 0.6 + 0.2
    frames = []
    for place in range(count):
        frame = ground.copy()
        frame[:, (3 * place) % width : (3 * place) % width + 4] = (0.9, 0.3, 0.2)
        frames.append(np.rint(frame * top).astype(dtype))
    return frames


def make(
    path: Path | str,
    pts: Sequence[int] = EVEN,
    frames: Sequence[NDArray[Any]] | None = None,
    *,
    encoder: str = "libx264",
    format: str = "yuv420p",
    unit: Fraction = UNIT,
    sound: bool = True,
    rotation: float = 0,
    colours: tuple[int, int, int, int] = (1, 1, 1, 1),
    options: dict[str, str] | None = None,
    extras: Any = None,
) -> Path:
    """Make a video; `colours` are matrix, range, primaries and transfer, `extras` gets the open container."""
    frames = moving(len(pts)) if frames is None else frames
    quiet = {"x265-params": "log-level=error"} if encoder == "libx265" else {}
    with av.open(str(path), "w") as out:
        video = out.add_stream(encoder, rate=25, options=quiet | (options or {}))
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = format
        video.time_base = video.codec_context.time_base = unit
        context = video.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = colours
        if rotation:
            video.set_display_rotation(rotation)
        audio = out.add_stream("aac", rate=48000) if sound else None
        if extras is not None:
            extras(out)
        for time, pixels in zip(pts, frames, strict=True):
            source = {1: "rgb24", 2: "rgb48le"}[pixels.itemsize] if pixels.shape[2] == 3 else "rgba"
            frame = av.VideoFrame.from_ndarray(pixels, format=source)
            matrix = {6: 5, 2: 5}.get(colours[0], colours[0])
            frame = frame.reformat(format=format, dst_colorspace=matrix, dst_color_range=colours[1] or None)
            frame.pts, frame.time_base = time, unit
            out.mux(video.encode(frame))
        out.mux(video.encode())
        if audio is not None:
            _add_tone(out, audio, float(pts[-1] * unit) + 0.04)
    return Path(path)


def _add_tone(out: Any, audio: Any, seconds: float) -> None:
    """Some seconds of 440 Hz."""
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(48000 * seconds)) / 48000)
    for start in range(0, len(wave), 1024):
        part = np.ascontiguousarray(wave[None, start : start + 1024].repeat(2, 0).astype(np.float32))
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        out.mux(audio.encode(frame))
    out.mux(audio.encode())


@dataclass
class Seen:
    """What a player sees of a video; times in seconds."""

    times: list[Fraction]
    frames: list[Any]
    streams: list[str]
    metadata: dict[str, str]
    chapters: list[Any]
    packets: dict[int, list[tuple[Any, ...]]]

    @property
    def sound(self) -> list[tuple[Any, ...]]:
        """Time and bytes of the packets of the first sound."""
        return self.packets[self.streams.index("audio")]


def see(path: Path | str) -> Seen:
    """Decode a video, and list its packets."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0)) if file.streams.video else []
        streams = [stream.type for stream in file.streams]
        metadata, chapters = dict(file.metadata), file.chapters()
    packets: dict[int, list[tuple[Any, ...]]] = {}
    with av.open(str(path)) as file:
        for packet in file.demux():
            if packet.size:
                time = None if packet.pts is None else packet.pts * packet.time_base
                packets.setdefault(packet.stream.index, []).append((time, bytes(packet)))
    times = [frame.pts * frame.time_base for frame in frames]
    return Seen(times, frames, streams, metadata, chapters, packets)
