"""What goes along with the frames: subtitles, covers, timecodes, late beginnings, metadata."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esc_sr.image import Animation, Encoding, Picture, encode_image
from esc_sr.upscaling.engine import Upscaler
from esc_sr.video.clip import look_at
from esc_sr.video.coding import Coding
from esc_sr.video.run import plan_video, upscale_video
from video_clips import EVEN, Twice, av, make, see

COVER = encode_image(Animation([Picture(np.zeros((8, 8, 3), np.uint8))], [], 0), "png", Encoding())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def notes_of(source: Path, target: str) -> list[str]:
    """Enlarge a video, and return the notes."""
    upscaler = Upscaler(Twice(), 2, device="cpu")
    plan = plan_video(look_at(source), Path(target), upscaler, Coding())
    return upscale_video(plan, upscaler, {}).notes


def add(out: Any, codec: str, parts: list[tuple[int, bytes]], unit: Fraction, **facts: Any) -> None:
    """Add a stream of ready packets, with their times in units."""
    stream = out.add_mux_stream(codec, time_base=unit, **facts)
    stream.metadata["language"] = "deu"
    out.start_encoding()
    for time, data in parts:
        packet = av.Packet(data)
        packet.pts = packet.dts = time
        packet.duration, packet.time_base, packet.stream = 100, unit, stream
        out.mux(packet)


def subtitled(path: str) -> Path:
    parts = [(100, b"eins"), (250, b"zwei")]
    return make(path, extras=lambda out: add(out, "subrip", parts, Fraction(1, 1000)))


def covered(path: str) -> Path:
    attached = av.stream.Disposition.attached_pic
    facts = {"width": 8, "height": 8, "disposition": attached}
    return make(path, extras=lambda out: add(out, "png", [(0, COVER)], Fraction(1, 90000), **facts))


def test_subtitles_stay() -> None:
    source = subtitled("a.mkv")
    assert notes_of(source, "b.mkv") == []
    before, after = see(source), see("b.mkv")
    place = before.streams.index("subtitle")
    assert after.packets[place] == before.packets[place] != []
    with av.open("b.mkv") as file:
        assert file.streams.subtitles[0].metadata["language"] == "deu"


def test_subtitles_that_are_not_held_are_said() -> None:
    (note,) = notes_of(subtitled("a.mkv"), "b.mp4")
    assert note.startswith("left out: subtitle stream 2 (srt)") and note.endswith("; .mkv holds most")
    assert see("b.mp4").streams == ["video", "audio"]


@pytest.mark.parametrize("target", ["b.mp4", "b.mkv"])
def test_the_cover_stays(target: str) -> None:
    notes_of(covered("a.mp4"), target)
    notes_of(Path(target), "c.mkv")
    notes_of(Path("c.mkv"), "d.mp4")
    for name in (target, "c.mkv", "d.mp4"):
        assert [data for _, data in see(name).packets[2]] == [COVER], name
        with av.open(name) as file:
            assert file.streams[2].disposition & av.stream.Disposition.attached_pic


def test_the_timecode_stays() -> None:
    source = make("a.mov", extras=lambda out: out.streams[0].metadata.update(timecode="01:02:03:04"))
    assert notes_of(source, "b.mov") == []
    for name in ("a.mov", "b.mov"):
        with av.open(name) as file:
            assert [stream.metadata.get("timecode") for stream in file.streams][::2] == ["01:02:03:04"] * 2


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_video_that_begins_late_does_so_still(suffix: str) -> None:
    source = make(f"a{suffix}", tuple(time + 6400 for time in EVEN))
    assert notes_of(source, f"b{suffix}") == []
    before, after = see(source), see(f"b{suffix}")
    assert before.times == after.times and before.times[0] >= Fraction(1, 2)
    assert before.sound == after.sound


def test_times_that_another_container_cannot_hold_are_said() -> None:
    rounded, later = notes_of(make("a.mp4", tuple(time + 1 for time in EVEN)), "b.mkv")
    assert rounded == "matroska counts time in 1/1000 s: times are rounded to that"
    assert later == "everything is 0.021 s later: this container has no times before 0"
    difference = [
        after - before for before, after in zip(see("a.mp4").times, see("b.mkv").times, strict=True)
    ]
    assert max(difference) - min(difference) <= Fraction(1, 1000)


def test_metadata_that_is_not_held_is_said() -> None:
    source = make("a.mkv", extras=lambda out: out.metadata.update(title="T", weird="x"))
    assert notes_of(source, "b.mp4") == ["left out: metadata WEIRD; .mkv holds any"]
    assert see("b.mp4").metadata["title"] == "T"


def test_a_phones_own_metadata_stay() -> None:
    with av.open("a.mov", "w", options={"movflags": "use_metadata_tags"}) as out:
        out.metadata.update({"com.apple.quicktime.make": "Apple", "title": "T"})
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height = 32, 24
        out.mux(stream.encode(av.VideoFrame(32, 24, "yuv420p")))
        out.mux(stream.encode())
    assert notes_of(Path("a.mov"), "b.mov") == []
    found = see("b.mov").metadata
    assert (found["com.apple.quicktime.make"], found["title"]) == ("Apple", "T")
