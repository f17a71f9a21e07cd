"""Enlarged videos: times, streams, colours and all else of the input are as they were."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import cuda

from esc_sr.errors import EscError, UsageError
from esc_sr.upscaling.engine import Upscaler
from esc_sr.video.clip import Span, look_at, parse_span
from esc_sr.video.coding import Coding
from esc_sr.video.look import Look, from_rgb, nearest, to_rgb
from esc_sr.video.run import VideoResult, plan_video, upscale_video
from video_clips import EVEN, UNEVEN, Twice, av, make, moving, see

DOUBLE = Upscaler(Twice(), 2, device="cpu")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def enlarge(
    source: Path, target: str, coding: Coding = Coding(), span: Span = Span(), upscaler: Upscaler = DOUBLE
) -> VideoResult:
    plan = plan_video(look_at(source), Path(target), upscaler, coding, span)
    return upscale_video(plan, upscaler, {})


def same_but_larger(source: Path, target: str) -> None:
    """Times, sound and colours are those of the source, and the frames twice as large."""
    before, after = see(source), see(target)
    assert before.times == after.times
    assert before.streams == after.streams
    if "audio" in before.streams:
        assert before.sound == after.sound
    for small, large in zip(before.frames, after.frames, strict=True):
        assert (large.width, large.height) == (2 * small.width, 2 * small.height)
        assert large.format.name == small.format.name
        for what in ("colorspace", "color_range", "color_primaries", "color_trc", "rotation"):
            assert getattr(large, what) == getattr(small, what), what


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.ts"])
@pytest.mark.parametrize("pts", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_times_sound_and_colours_stay(name: str, pts: tuple[int, ...]) -> None:
    # what lies before the first frame depends on the processor, by x264, and .ts has no times before 0
    source = make(name, tuple(time + 9000 for time in pts) if name == "a.ts" else pts)
    result = enlarge(source, f"b{source.suffix}")
    assert result.notes == [] and result.status.frames == result.status.computed == len(pts)
    same_but_larger(source, f"b{source.suffix}")
    assert sorted(path.name for path in Path().iterdir()) == sorted([name, f"b{source.suffix}"])


def test_the_pixels_are_those_of_the_network() -> None:
    source = make("a.mkv", encoder="ffv1")
    enlarge(source, "b.mkv", Coding(encoder="ffv1"))
    small, large = (see(name).frames for name in ("a.mkv", "b.mkv"))
    look = look_at(source).look
    for before, after in zip(small, large, strict=True):
        wanted = from_rgb(DOUBLE.upscale(to_rgb(before, look)), look.enlarged(48, 64, look.format))
        np.testing.assert_array_equal(after.to_ndarray(), wanted.to_ndarray())


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotation_stays(name: str, rotation: int) -> None:
    source = make(name, rotation=rotation)
    enlarge(source, f"b{source.suffix}")
    same_but_larger(source, f"b{source.suffix}")
    assert see(f"b{source.suffix}").frames[0].rotation == see(source).frames[0].rotation != 0


def test_hdr_of_ten_bits_stays() -> None:
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    options = {"x265-params": f"log-level=error:master-display={display}:max-cll=1000,400"}
    frames = moving(10, top=65535)
    source = make(
        "a.mkv",
        frames=frames,
        encoder="libx265",
        format="yuv420p10le",
        colours=(9, 1, 9, 16),
        options=options,
    )
    look = look_at(source).look
    assert look.mastering == (13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10000000, 50)
    assert look.light == (1000, 400)
    enlarge(source, "b.mkv")
    same_but_larger(source, "b.mkv")
    larger = look_at(Path("b.mkv")).look
    assert (larger.mastering, larger.light, larger.transfer) == (look.mastering, look.light, 16)
    small, large = (to_rgb(see(name).frames[0], of) for name, of in (("a.mkv", look), ("b.mkv", larger)))
    assert large.dtype == np.uint16
    difference = large[::2, ::2].astype(int) - small
    assert abs(difference.mean()) < 128 and np.abs(difference).mean() < 600  # of 65535; crf 20 is lossy


@pytest.mark.parametrize("format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "gbrp", "gray"])
@pytest.mark.parametrize("colours", [(1, 1, 1, 1), (6, 1, 6, 6), (9, 1, 9, 18), (5, 2, 5, 6)])
def test_flat_colours_come_back_exactly(format: str, colours: tuple[int, int, int, int]) -> None:
    """Through RGB and back, whatever the matrix; of full range within a level, or two of ten bits."""
    deep = "10" in format
    frame = av.VideoFrame(16, 16, format)
    draw, unit = np.random.default_rng(0), 4 if deep else 1
    frame.colorspace, frame.color_range = colours[:2]
    for _ in range(20):
        values = [int(draw.integers(*limits)) * unit for limits in ((70, 170), (110, 146), (110, 146))]
        for plane, value in zip(frame.planes, values, strict=False):
            plane.update(_filled(plane, value, deep))
        look = Look(16, 16, format, *colours)
        back = from_rgb(to_rgb(frame, look), look)
        assert back.format.name == format
        for plane, value in zip(back.planes, values, strict=False):
            got = np.frombuffer(bytes(plane), "<u2" if deep else "u1")[3]
            assert abs(int(got) - value) <= (colours[1] == 2) * (2 if deep else 1), (format, colours)


def _filled(plane: Any, value: int, deep: bool) -> bytes:
    """The bytes of a plane of one value."""
    dtype = np.dtype("<u2" if deep else "u1")
    return np.full(plane.buffer_size // dtype.itemsize, value, dtype).tobytes()


def test_white_and_black_are_the_ends_of_the_scale() -> None:
    """Limited range is widened for the network, and full range is left."""
    for range, black, white in ((1, 16, 235), (2, 0, 255)):
        for value, seen in ((black, 0), (white, 255)):
            frame = av.VideoFrame(16, 16, "yuv420p")
            for plane, level in zip(frame.planes, (value, 128, 128), strict=True):
                plane.update(_filled(plane, level, False))
            frame.colorspace, frame.color_range = 1, range
            assert (to_rgb(frame, Look(16, 16, "yuv420p", 1, range, 1, 1)) == seen).all()


def test_white_of_ten_bits_is_a_little_below_the_end() -> None:
    """swscale's white of 16 bits, which it takes for white on the way back, too."""
    frame = av.VideoFrame(16, 16, "yuv420p10le")
    for plane, level in zip(frame.planes, (940, 512, 512), strict=True):
        plane.update(_filled(plane, level, True))
    frame.colorspace, frame.color_range = 9, 1
    seen = to_rgb(frame, Look(16, 16, "yuv420p10le", 9, 1, 9, 16))
    assert 65535 * (1 - 4 / 1023) <= seen.min() <= seen.max() <= 65535


def test_a_matrix_that_the_size_told_is_told_by_its_number() -> None:
    """Players take BT.601 for small pictures and BT.709 for large ones, where nothing is said."""
    frames = [np.zeros((4, 1000, 3), np.uint8)]
    source = make("a.mkv", (0,), frames, encoder="ffv1", sound=False, colours=(2, 0, 2, 2))
    enlarge(source, "b.mkv", Coding(encoder="ffv1"))
    assert look_at(source).look.matrix == 2
    assert look_at(Path("b.mkv")).look.matrix == 6
    assert look_at(make("c.mp4", colours=(2, 0, 2, 2))).look.matrix == 2


def test_chapters_metadata_attachments_and_subtitles_stay() -> None:
    chapters = [
        {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}
    ]
    chapters += [{**chapters[0], "id": 2, "start": 200, "end": 400, "metadata": {"title": "two"}}]

    def extras(out: Any) -> None:
        out.set_chapters(chapters)
        out.metadata.update(title="A title", comment="words")
        out.streams[1].metadata["language"] = "fra"
        out.add_attachment("font.ttf", "application/x-truetype-font", b"letters")

    source = make("a.mkv", extras=extras)
    enlarge(source, "b.mkv")
    same_but_larger(source, "b.mkv")
    before, after = see(source), see("b.mkv")
    assert (
        [chapter | {"id": 0} for chapter in after.chapters] == [c | {"id": 0} for c in before.chapters] != []
    )
    for key in ("title", "COMMENT"):
        assert after.metadata[key] == before.metadata[key]
    with av.open("b.mkv") as file:
        assert file.streams.audio[0].metadata["language"] == "fra"
        (attached,) = file.streams.attachments
        assert (attached.name, attached.data) == ("font.ttf", b"letters")


def test_what_a_container_does_not_hold_is_said() -> None:
    source = make("a.mkv", extras=lambda out: out.add_attachment("font.ttf", "font/ttf", b"letters"))
    result = enlarge(source, "b.mp4")
    assert [note for note in result.notes if "attachment" in note] == [
        "left out: attachment stream 2 (unknown): mp4 has no attachments; .mkv holds most"
    ]
    assert see(source).times == see("b.mp4").times


def test_a_part_begins_at_zero_with_its_own_sound() -> None:
    source = make("a.mp4", EVEN)
    enlarge(source, "b.mp4", span=parse_span("0.1", "0:00:00.28"))
    before, after = see(source), see("b.mp4")
    assert after.times == [time - before.times[3] for time in before.times[3:7]]
    heard = [data for time, data in before.sound if Fraction("0.12") <= time < Fraction("0.28")]
    assert [data for _, data in after.sound] == heard
    assert 0 <= min(time for time, _ in after.sound) < Fraction(1, 40)


def test_odd_sizes_are_cut_and_said() -> None:
    source = make("a.mkv", frames=moving(10, 25, 33), encoder="ffv1", format="yuv444p")
    assert enlarge(source, "b.mkv", Coding(encoder="libx264")).notes == []
    small = make("odd.mkv", frames=moving(10, 25, 33), encoder="ffv1", sound=False)
    result = enlarge(small, "c.mkv", upscaler=Upscaler(_Thrice(), 3, device="cpu"))
    note = "yuv420p has even sizes only: of 99 x 75, the last row and column are cut off"
    assert result.notes == [note]
    assert (see("c.mkv").frames[0].width, see("c.mkv").frames[0].height) == (98, 74)


class _Thrice(Twice):
    def forward(self, image: Any) -> Any:
        return image.repeat_interleave(3, 2).repeat_interleave(3, 3)


def test_formats_keep_what_they_can() -> None:
    offered = [format.name for format in av.codec.Codec("libx264", "w").video_formats]
    kept = {"yuv420p", "yuv422p10le", "nv12", "gray"}
    assert {nearest(format, offered) for format in kept} == kept
    assert nearest("yuva444p10le", offered) == "yuv444p10le"
    assert nearest("yuv420p12le", offered) == "yuv420p10le"
    assert nearest("gbrp", ["yuv420p", "gbrp10le"]) == "gbrp10le"


@pytest.mark.parametrize(
    ("coding", "said"),
    [
        (Coding(encoder="nonsense"), "no encoder is called 'nonsense'"),
        (Coding(encoder="aac"), "aac encodes no video"),
        (Coding(quality=52), "quality 52: libx264 takes 0 (best) to 51"),
        (Coding(encoder="ffv1", quality=3), "ffv1 has no --quality"),
        (Coding(preset="nonsense"), "libx264 refuses 64 x 48 yuv420p with crf=18, preset=nonsense"),
        (
            Coding(encoder="prores_ks"),
            "'mp4' format does not support 'prores' codec; prores_ks in mp4 does not",
        ),
        (Coding(encoder="hevc_nvenc"), "hevc_nvenc refuses"),
    ],
)
def test_encoders_that_cannot_be_had_are_one_line(coding: Coding, said: str) -> None:
    if coding.encoder == "hevc_nvenc" and cuda.is_available():
        pytest.skip("it can be had here")
    source = make("a.mp4", EVEN[:2], moving(2), sound=False)
    with pytest.raises(EscError) as error:
        enlarge(source, "b.mp4", coding)
    assert said in str(error.value)
    assert sorted(path.name for path in Path().iterdir()) == ["a.mp4"]


def test_a_file_that_could_not_be_read_again_is_not_begun() -> None:
    source = make("a.mp4", EVEN[:2], moving(2), sound=False)
    never = Upscaler(Twice(), 2, device="cpu")
    never.upscale = None  # type: ignore[assignment]
    with pytest.raises(EscError, match="cannot be read again; ffv1 in mpegts does not work for this"):
        enlarge(source, "b.ts", Coding(encoder="ffv1"), upscaler=never)


@pytest.mark.parametrize(
    ("target", "coding", "format", "codec"),
    [
        ("b.mp4", Coding(encoder="libvpx-vp9"), "yuv420p", "vp9"),
        ("b.mkv", Coding(encoder="libsvtav1"), "yuv420p", "av1"),
        ("b.mov", Coding(encoder="prores_ks"), "yuv422p10le", "prores"),
        ("b.mp4", Coding(encoder="libx265", preset="fast"), "yuv420p", "hevc"),
    ],
)
def test_other_encoders(target: str, coding: Coding, format: str, codec: str) -> None:
    source = make("a.mp4", EVEN[:3], moving(3, 72, 96), sound=False)
    assert not [note for note in enlarge(source, target, coding).notes if "times" not in note]
    found = look_at(Path(target))
    assert (found.codec, found.look.format) == (codec, format)
    assert see(target).times == see(source).times


def test_transparency_stays_where_it_can() -> None:
    frames = moving(3)
    clear = [np.dstack([frame, np.full(frame.shape[:2], 60, np.uint8)]) for frame in frames]
    source = make("a.mov", EVEN[:3], clear, encoder="prores_ks", format="yuva444p10le", sound=False)
    enlarge(source, "b.mov")
    alpha = to_rgb(see("b.mov").frames[1], look_at(Path("b.mov")).look, alpha=True)[:, :, 3]
    assert np.abs(alpha / 65535 - 60 / 255).max() < 0.01
    assert (
        enlarge(source, "b.mp4").notes[-1] == "libx265 has no transparency: it is lost; -o NAME.mov keeps it"
    )


def test_interlaced_video_is_said() -> None:
    source = make("a.mp4", options={"flags": "+ilme+ildct", "x264-params": "tff=1"})
    (note,) = enlarge(source, "b.mp4").notes
    assert note.startswith("interlaced: ")


@pytest.mark.parametrize("text", ["x", "1:2:3:4", "-1", "1:", ""])
def test_times_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        parse_span(text, None)
