"""How the frames of a video look: size, pixel format, colours, orientation; to RGB and back."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.stream import VideoStream

UNSPECIFIED = 2
"""What H.273 calls a matrix, primaries or a transfer that is not told."""

_BT709, _BT601 = 1, 6
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # of H.273, to what swscale calls them; others as BT.601
_LARGEST_SD = (1279, 576)  # width and height up to which players take BT.601 for granted
_DYNAMIC = {
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DOVI_METADATA": "Dolby Vision",
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "A53_CC": "closed captions",
}
"""Side data of frames that are made for the smaller picture, or that no encoder takes here."""


@dataclass(frozen=True)
class Look:
    """What all frames of a video have in common; numbers for colours are those of H.273.

    Attributes:
        height: In pixels.
        width: Likewise.
        format: Name of the pixel format.
        matrix: From RGB to YUV.
        range: 0 not told, 1 limited (16..235 of 8 bits), 2 full.
        primaries: Of the colours.
        transfer: From light to values, which are left as they are.
        aspect: Width of a pixel by its height, if told.
        orientation: Nine numbers that turn or mirror the picture when it is shown, if any.
        mastering: Of the display it was graded on: the x and y of green, blue, red and white in 1/50000, the
            most and least light in 1/10000 cd/m2; if told.
        light: The most light of a pixel and of a frame's mean, in cd/m2, if told.
        interlaced: Whether a frame is two half pictures.
        lost: What frames carry that the enlarged ones will not.
    """

    height: int
    width: int
    format: str
    matrix: int
    range: int
    primaries: int
    transfer: int
    aspect: Fraction | None = None
    orientation: tuple[int, ...] | None = None
    mastering: tuple[int, ...] | None = None
    light: tuple[int, int] | None = None
    interlaced: bool = False
    lost: tuple[str, ...] = ()

    @classmethod
    def of(cls, frame: "VideoFrame", stream: "VideoStream") -> "Look":
        """That of a frame."""
        every: Any = frame.side_data
        beside = {data.type.name: bytes(data) for data in every}
        matrix = beside.get("DISPLAYMATRIX")
        light = beside.get("CONTENT_LIGHT_LEVEL")
        return cls(
            height=frame.height,
            width=frame.width,
            format=_plain(frame.format.name),
            matrix=int(frame.colorspace),
            range=2 if frame.format.name.startswith("yuvj") else int(frame.color_range),
            primaries=int(frame.color_primaries),
            transfer=int(frame.color_trc),
            aspect=stream.sample_aspect_ratio or None,
            orientation=struct.unpack("=9i", matrix) if matrix else None,
            mastering=_mastering(beside.get("MASTERING_DISPLAY_METADATA")),
            light=struct.unpack_from("=II", light) if light else None,
            interlaced=frame.interlaced_frame,
            lost=tuple(dict.fromkeys(name for kind, name in _DYNAMIC.items() if kind in beside)),
        )

    def fits(self, frame: "VideoFrame") -> bool:
        """Whether another frame has the same size and format."""
        return (frame.height, frame.width, _plain(frame.format.name)) == (
            self.height,
            self.width,
            self.format,
        )

    @property
    def seen_matrix(self) -> int:
        """The matrix, or where it is not told what players take at this size."""
        if self.matrix != UNSPECIFIED or is_rgb(self.format):
            return self.matrix
        width, height = _LARGEST_SD
        return _BT601 if self.width <= width and self.height <= height else _BT709

    @property
    def deep(self) -> bool:
        """Whether a channel has more than 8 bits."""
        return depth(self.format) > 8

    def enlarged(self, height: int, width: int, format: str) -> "Look":
        """The look of the result, of another size and perhaps format; a matrix is told that the size hid."""
        values = self.__dict__ | {"height": height, "width": width, "format": format}
        larger = Look(**values)
        told = larger.seen_matrix != self.seen_matrix or (is_rgb(self.format) and not is_rgb(format))
        if told and not is_rgb(format):
            values["matrix"] = _BT709 if is_rgb(self.format) else self.seen_matrix
        return Look(**values)


def to_rgb(frame: "VideoFrame", look: Look, alpha: bool = False) -> NDArray[Any]:
    """The pixels of a frame, (H, W, 3), or with alpha (H, W, 4): uint8, or of more than 8 bits uint16.

    They are RGB by the frame's own matrix and range, in its own transfer and primaries.
    """
    target = ("rgba64le" if alpha else "rgb48le") if look.deep else ("rgba" if alpha else "rgb24")
    matrix = _MATRICES.get(look.seen_matrix, 5)
    pixels: NDArray[Any] = _converted(frame, target, matrix, look.range, 0).to_ndarray()
    return pixels


def from_rgb(pixels: NDArray[Any], look: Look) -> "VideoFrame":
    """A frame of some look from pixels as `to_rgb` gives them."""
    import av

    alpha, deep = pixels.shape[2] == 4, pixels.dtype == np.uint16
    source = ("rgba64le" if alpha else "rgb48le") if deep else ("rgba" if alpha else "rgb24")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=source)
    matrix = _MATRICES.get(look.seen_matrix, 5)
    made = _converted(frame, look.format, matrix, 0, look.range)
    made.colorspace, made.color_range = look.matrix, look.range
    made.color_primaries, made.color_trc = look.primaries, look.transfer
    return made


def _converted(frame: "VideoFrame", target: str, matrix: int, source_range: int, range: int) -> "VideoFrame":
    """A frame in another pixel format, by the exact one of swscale's ways."""
    from av.video.reformatter import Interpolation as How

    exact = How.BICUBIC | How.ACCURATE_RND | How.FULL_CHR_H_INT | How.FULL_CHR_H_INP | How.BITEXACT
    return frame.reformat(
        format=target,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=source_range,
        dst_color_range=range,
        interpolation=int(exact),
        threads=1,
    )


def depth(format: str) -> int:
    """Bits of the deepest channel of a pixel format."""
    import av

    return max(part.bits for part in av.VideoFormat(format).components)


def is_rgb(format: str) -> bool:
    """Whether a pixel format has red, green and blue, or a palette of them."""
    import av

    known = av.VideoFormat(format)
    return known.is_rgb or known.has_palette


def has_alpha(format: str) -> bool:
    """Whether a pixel format has transparency, other than that of a palette."""
    import av

    return any(part.is_alpha for part in av.VideoFormat(format).components)


def halves(format: str) -> tuple[int, int]:
    """Pixels down and across that share one value of colour: 2 and 2 of yuv420p."""
    import av

    known = av.VideoFormat(format, 16, 16)
    return 16 // known.chroma_height(16), 16 // known.chroma_width(16)


def nearest(format: str, offered: list[str]) -> str:
    """That of some pixel formats that loses least of another one, and of those the smallest.

    Lost are, from worst to least: alpha, bits, RGB or YUV, and how many pixels share a value of colour.
    """

    def cost(other: str) -> tuple[Any, ...]:
        down, across = halves(format)
        other_down, other_across = halves(other)
        coarser = other_down * other_across - down * across
        spare = depth(other) - depth(format)
        return (
            has_alpha(format) and not has_alpha(other),
            max(-spare, 0),
            is_rgb(format) != is_rgb(other),
            _is_grey(other) and not _is_grey(format),
            max(coarser, 0),
            _is_grey(other) != _is_grey(format),
            has_alpha(other),
            max(spare, 0),
            abs(coarser),
            other != format,
            not other.startswith("yuv"),
        )

    return min((other for other in offered if other == _plain(other)), key=cost)


def _plain(format: str) -> str:
    """A pixel format without the full range that the old names of some tell as well."""
    return format.replace("yuvj", "yuv")


def _is_grey(format: str) -> bool:
    """Whether a pixel format has no colours."""
    return format.startswith("gray")


def _mastering(data: bytes | None) -> tuple[int, ...] | None:
    """The numbers of FFmpeg's AVMasteringDisplayMetadata, as `Look.mastering` has them."""
    if data is None or len(data) < 88:
        return None
    numbers = struct.unpack_from("=22i", data)
    if not (numbers[20] and numbers[21]):
        return None
    fractions = [Fraction(*pair) for pair in zip(numbers[0:20:2], numbers[1:20:2], strict=True)]
    red, green, blue, white = (fractions[at : at + 2] for at in range(0, 8, 2))
    places = [round(50000 * value) for value in (*green, *blue, *red, *white)]
    least, most = fractions[8:10]
    return (*places, round(10000 * most), round(10000 * least))
