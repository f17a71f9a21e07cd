"""How the enlarged frames are encoded: which encoder, how well, in which pixel format."""

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from esc_sr.errors import UsageError, VideoError
from esc_sr.video.look import Look, has_alpha, is_rgb, nearest

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
    ".m2ts": "mpegts",
    ".mts": "mpegts",
}
"""What is written, by suffix, and what FFmpeg calls it. Anything else that is read becomes .mkv."""


class _Encoder(NamedTuple):
    """What is known of an encoder: its quality when none is given, the worst, its preset, and options."""

    quality: float | None
    worst: float = 0
    preset: str | None = None
    options: tuple[tuple[str, str], ...] = ()


_ENCODERS = {
    "libx264": _Encoder(18, 51, "medium"),
    "libx265": _Encoder(20, 51, "medium"),
    "libsvtav1": _Encoder(24, 63, "6"),
    "libvpx-vp9": _Encoder(24, 63, None, (("b", "0"), ("row-mt", "1"), ("cpu-used", "2"))),
    "ffv1": _Encoder(None, options=(("level", "3"), ("slicecrc", "1"))),
    "prores_ks": _Encoder(None),
}


@dataclass(frozen=True)
class Coding:
    """What of the encoding can be chosen; None is the default of the encoder.

    Attributes:
        encoder: As FFmpeg calls it; by default libx264 for 8 bits, libx265 for more and for RGB, libvpx-vp9
            in WebM, and prores_ks for transparency in .mov and .mkv.
        quality: Constant quality (CRF): lower is better and larger. 18 of libx264, 20 of libx265.
        preset: How much time the encoder takes.
        options: More of its options, by name.
    """

    encoder: str | None = None
    quality: float | None = None
    preset: str | None = None
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Settings:
    """All that an encoder is told.

    Attributes:
        encoder: Its name.
        look: How the frames look that it gets.
        options: By name, as text.
        time_base: Seconds of a unit of the frames' times.
        rate: Frames a second, on average.
        global_header: Whether its headers stand once in the file, not before each key frame.
        threads: Of the encoder; the packets depend on their number.
    """

    encoder: str
    look: Look
    options: dict[str, str]
    time_base: Fraction
    rate: Fraction
    global_header: bool
    threads: int

    def add_to(self, container: "OutputContainer") -> "VideoStream":
        """Add a stream that encodes.

        Raises:
            VideoError: The encoder refuses.
        """
        import av
        from av.codec.context import Flags

        if self.encoder == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only
        stream = container.add_stream(self.encoder, rate=self.rate, options=dict(self.options))
        assert isinstance(stream, av.VideoStream)
        context, look = stream.codec_context, self.look
        context.width, context.height, context.pix_fmt = look.width, look.height, look.format
        context.time_base = stream.time_base = self.time_base
        context.thread_count = self.threads
        flag = int(Flags.global_header)
        context.flags = context.flags | flag if self.global_header else context.flags & ~flag
        describe(stream, look)
        try:
            context.open()
        except (av.error.FFmpegError, ValueError) as error:
            shape = f"{look.width} x {look.height} {look.format}"
            raise VideoError(f"{self.encoder} refuses {shape} with {_shown(self.options)}") from error
        return stream


def describe(stream: "VideoStream", look: Look) -> None:
    """Tell a stream what its colours mean and how wide a pixel is."""
    context = stream.codec_context
    context.colorspace, context.color_range = look.matrix, look.range
    context.color_primaries, context.color_trc = look.primaries, look.transfer
    if look.aspect is not None:
        context.sample_aspect_ratio = look.aspect


def suffix_for(source: Path) -> str:
    """The suffix of an output by default: that of the input, or .mkv where such files are not written."""
    return source.suffix if source.suffix.lower() in CONTAINERS else ".mkv"


def container_of(target: Path) -> str:
    """What FFmpeg calls the container of an output.

    Raises:
        UsageError: It is none that is written.
    """
    kind = CONTAINERS.get(target.suffix.lower())
    if kind is None:
        raise UsageError(f"{target}: no video by its name; use one of {', '.join(CONTAINERS)}")
    return kind


def choose(coding: Coding, look: Look, kind: str) -> tuple[str, str]:
    """The encoder, and the pixel format that it will get.

    Args:
        coding: What is wished.
        look: How the frames of the input look.
        kind: The container, as FFmpeg calls it.

    Raises:
        UsageError: There is no such encoder, or it does not fit into the container.
    """
    import av

    name = coding.encoder or _default(look, kind)
    try:
        codec = av.codec.Codec(name, "w")
    except av.codec.codec.UnknownCodecError as error:
        raise UsageError(f"no encoder is called {name!r} in this PyAV; try {', '.join(_ENCODERS)}") from error
    offered = [format.name for format in codec.video_formats or () if format.components]  # in memory
    if name == "libx265":  # its alpha is a layer of its own, which few players know
        offered = [format for format in offered if not has_alpha(format)]
    if codec.type != "video" or not offered:
        raise UsageError(f"{name} encodes no video from memory; try {', '.join(_ENCODERS)}")
    return name, nearest(look.format, offered)


def options_for(coding: Coding, encoder: str, look: Look, threads: int) -> dict[str, str]:
    """What an encoder is told beside the frames.

    Raises:
        UsageError: The quality is out of range, or the encoder knows none here, or not one of its options.
    """
    import av

    known = _ENCODERS.get(encoder, _Encoder(None))
    options = dict(known.options)
    quality = known.quality if coding.quality is None else coding.quality
    if coding.quality is not None:
        if known.quality is None:
            raise UsageError(f"{encoder} has no --quality here; --encoder-option takes its own options")
        if not 0 <= coding.quality <= known.worst:
            raise UsageError(f"quality {coding.quality:g}: {encoder} takes 0 (best) to {known.worst:g}")
    if quality is not None:
        options["crf"] = f"{quality:g}"
    if preset := coding.preset or known.preset:
        options["preset"] = preset
    context = av.CodecContext.create(encoder, "w")
    names = {
        option.name for kind in ("generic", "private") for option in getattr(context.supported_options, kind)
    }
    if unknown := [name for name, _ in coding.options if name not in names]:
        raise UsageError(f"{encoder} has no option {unknown[0]!r}; ffmpeg -h encoder={encoder} lists them")
    options |= dict(coding.options)
    special = _parameters(encoder, look, threads)
    if special:
        name = encoder.removeprefix("lib") + "-params"
        options[name] = ":".join(filter(None, (special, options.get(name))))
    return options


def keeps_light(encoder: str) -> bool:
    """Whether an encoder is told the display and the most light that a video was graded for."""
    return encoder in ("libx264", "libx265")


def _default(look: Look, kind: str) -> str:
    """The encoder where none is wished."""
    if kind == "webm":
        return "libvpx-vp9"
    if has_alpha(look.format) and kind in ("mov", "matroska"):
        return "prores_ks"
    return "libx265" if look.deep or is_rgb(look.format) else "libx264"


def _parameters(encoder: str, look: Look, threads: int) -> str:
    """Options of x264 and x265 that FFmpeg has no names for."""
    if not keeps_light(encoder):
        return ""
    import torch

    parameters, x265 = [], encoder == "libx265"
    if not x265 and torch.backends.cpu.get_cpu_capability().startswith(("AVX512", "AMX")):
        parameters.append("asm=AVX2")  # with AVX-512 x264 gives other packets from time to time
    if x265:  # frames that wait for each other change the packets, so their number is fixed
        parameters += ["log-level=error", f"pools={threads}", f"frame-threads={min(threads, 4)}"]
    if look.mastering is not None:
        numbers = iter(look.mastering)
        text = "".join(f"{name}({next(numbers)},{next(numbers)})" for name in ("G", "B", "R", "WP", "L"))
        parameters.append(f"{'master-display' if x265 else 'mastering-display'}={text}")
    if look.light is not None:
        parameters.append(f"{'max-cll' if x265 else 'cll'}={look.light[0]},{look.light[1]}")
    return ":".join(parameters)


def _shown(options: dict[str, str]) -> str:
    """Options as people read them."""
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "its defaults"
