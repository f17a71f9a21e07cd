"""Videos that are damaged, odd or none, and frames to look at: what the command says, and how it ends."""

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from esc_sr.cli.main import app
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.image import Picture, read_image, write_image
from esc_sr.upscaling.engine import Upscaler
from esc_sr.video import clip
from esc_sr.video.clip import look_at
from esc_sr.video.look import to_rgb
from esc_sr.video.sample import upright
from esc_sr.weights import save
from video_clips import EVEN, av, make, see

TINY = ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder with tiny.safetensors."""
    monkeypatch.chdir(tmp_path)
    save(ESC(TINY), "tiny.safetensors")


def call(line: str) -> tuple[int, str, list[str]]:
    """Run `esc-sr video`: exit code, standard output, and lines on standard error."""
    words = ["video", *line.split(), "-n", "tiny.safetensors", "--device", "cpu", "--engine", "torch"]
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr.splitlines()


def noise(count: int = 20) -> list[NDArray[np.uint8]]:
    """Frames that take many bytes."""
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(count)]


def noisy(path: str) -> Path:
    return make(path, tuple(range(0, 20 * 512, 512)), noise(), sound=False)


def quiet(name: str, video: bool) -> None:
    """Make a file of silence, with or without a video that has no frame."""
    with av.open(name, "w") as out:
        if video:
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height = 32, 24
        audio = out.add_stream("aac", rate=48000)
        for start in range(0, 9216, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            frame.sample_rate, frame.pts = 48000, start
            out.mux(audio.encode(frame))
        out.mux(audio.encode())


def picture(name: str) -> None:
    """Make a picture, whatever it is called."""
    write_image(Picture(noise(1)[0]), name, format="avif" if name.endswith("avif") else "png")


def text(name: str) -> None:
    """Make a text, or a list of videos that lie beside it."""
    lists = {
        "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\na.ts\n#EXT-X-ENDLIST\n",
        "concat.mkv": "ffconcat version 1.0\nfile a.ts\n",
    }
    noisy("a.ts")
    Path(name).write_text(lists.get(name, "no video at all\n" * 100))


def half(name: str) -> None:
    """Make half of a video."""
    data = noisy("whole.mp4").read_bytes()
    Path(name).write_bytes(data[: len(data) // 2])


MAKERS: dict[str, Callable[[str], object]] = {
    "none.mp4": lambda name: None,
    "folder": lambda name: Path(name).mkdir(),
    "empty.mkv": lambda name: Path(name).write_bytes(b""),
    "text.mp4": text,
    "half.mp4": half,
    "list.m3u8": text,
    "concat.mkv": text,
    "p.png": picture,
    "p.mp4": picture,
    "p.avif": picture,
    "sound.m4a": lambda name: quiet(name, False),
    "frameless.mkv": lambda name: quiet(name, True),
}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.mp4", "no such file"),
        ("folder", "a folder; name one video"),
        ("empty.mkv", "an empty file"),
        ("text.mp4", "no video that can be read, or damaged at its beginning"),
        ("half.mp4", "no video that can be read, or damaged at its beginning"),
        ("list.m3u8", "no video that can be read, or damaged at its beginning"),
        ("concat.mkv", "no video that can be read, or damaged at its beginning"),
        ("p.png", "a picture (png); esc-sr upscale takes it"),
        ("p.mp4", "a picture (png); esc-sr upscale takes it"),
        ("p.avif", "a picture (avif); esc-sr upscale takes it"),
        ("sound.m4a", "no video in it, only audio"),
        ("frameless.mkv", "not one frame in it can be decoded"),
    ],
)
def test_what_is_no_video_is_one_line(name: str, said: str) -> None:
    MAKERS[name](name)
    before = set(Path().iterdir())
    assert call(name) == (2, "", [f"esc-sr: error: {name}: {said}"])
    assert set(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("-o a.mp4", "is an input itself"),
        ("-o b.avi", "no video by its name"),
        ("-o no/b.mp4", "no such folder"),
        ("--start 9", "no frame in this part"),
        ("--start 2 --end 1", "--end 1 is not after 2"),
        ("--encoder-option x", "write KEY=VALUE"),
        ("--encoder-option nonsense=1", "libx264 has no option 'nonsense'"),
        ("--sheet", "say which, as --frames 12,40"),
        ("--frames 1 --end 1", "leave out --start and --end"),
        ("--frames 1;2", "write numbers with commas"),
        ("--frames 3,10", "has 10 frames, from 0 to 9; there is no 10"),
        ("--frames 1,2 -o b.png", "2 pictures need a folder"),
        ("-s 2 --width 99", "wishes for one size"),
        ("-s 3", "enlarges x2 at most"),
    ],
)
def test_wishes_that_cannot_be_had_are_one_line(options: str, said: str) -> None:
    make("a.mp4")
    code, out, lines = call(f"a.mp4 {options} -q")
    assert (code, out, len(lines)) == (2, "", 1) and said in lines[0]
    kept = {"a.mp4", "tiny.safetensors", *(path.name for path in Path().glob("*_3.png"))}
    assert {path.name for path in Path().iterdir()} == kept


def test_broken_packets_are_said_and_all_else_is_done() -> None:
    data = bytearray(noisy("a.mp4").read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    Path("b.mp4").write_bytes(data)
    code, out, lines = call("b.mp4 --json")
    found = json.loads(out)
    assert code == 1 and found["frames"] > 10
    (said,) = [line for line in lines if "damaged" in line]
    assert "packets could not be decoded" in said and found["damage"] in said
    assert see("b_2x.mp4").times == see_rest("b.mp4")


def see_rest(name: str) -> list[Any]:
    """The times of the frames that can be decoded."""
    found = look_at(Path(name))
    return [(frame.pts or 0) * found.time_base for frame in clip.Frames(found)]


def test_a_file_that_is_cut_off_is_said() -> None:
    data = noisy("a.mkv").read_bytes()
    Path("b.mkv").write_bytes(data[: len(data) // 2])
    code, _, lines = call("b.mkv -q")
    assert code == 1 and len(lines) == 1
    assert "b.mkv: damaged: it ends 0." in lines[0] and "before it says it does" in lines[0]
    times = see("b_2x.mkv").times
    assert 5 < len(times) < 15 and times == see("a.mkv").times[: len(times)]


def test_frames_that_change_their_size_are_one_line() -> None:
    make("a.ts", EVEN[:3], noise(3), sound=False)
    later = tuple(time + 2000 for time in EVEN[:3])
    make("b.ts", later, [frame[:24, :32] for frame in noise(3)], sound=False)
    Path("c.ts").write_bytes(Path("a.ts").read_bytes() + Path("b.ts").read_bytes())
    code, _, lines = call("c.ts -q")
    assert code == 2 and len(lines) == 1 and "its frames become 32 x 24" in lines[0]
    assert not Path("c_2x.ts").exists()


def test_one_frame_is_a_video() -> None:
    make("a.mp4", (0,), noise(1), sound=False)
    assert call("a.mp4 -q") == (0, "", [])
    assert see("a_2x.mp4").times == [0]


def test_frames_are_enlarged_as_the_documents_have_it() -> None:
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text()
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "import av" in code)
    make("clip.mp4", EVEN[:2])
    names: dict[str, Any] = {}
    exec(compile(example, "docs/api.md", "exec"), names)
    assert names["larger"].shape == (48, 64, 3) and names["larger"].dtype == np.uint8
    ground = names["frame"].to_ndarray(format="rgb24").astype(int).repeat(2, 0).repeat(2, 1)
    assert np.abs(names["larger"] - ground).mean() < 8


def test_sizes_are_those_of_upscale() -> None:
    make("a.mp4", EVEN[:2], noise(2), sound=False)
    code, out, lines = call("a.mp4 --width 99")
    assert code == 0 and "-> a_99px.mp4 98x74" in out
    assert "esc-sr: yuv420p has even sizes only: of 99 x 74, the last column is cut off" in lines


def test_a_name_in_a_folder_and_one_file_for_two_formats() -> None:
    make("a.avi", (0, 1), noise(2), encoder="mpeg4", unit=Fraction(1, 25), sound=False)
    Path("out").mkdir()
    assert call("a.avi -o out -q") == (0, "", [])
    assert look_at(Path("out/a_2x.mkv")).codec == "h264"


class TestFrames:
    def test_they_are_those_of_the_network(self) -> None:
        make("a.mkv", encoder="ffv1")
        code, out, _ = call("a.mkv --frames 7,2,7")
        assert code == 0 and "frames 2, 7 -> a_2x_2.png, a_2x_7.png, tiny.safetensors x2" in out
        look, frames = look_at(Path("a.mkv")).look, see("a.mkv").frames
        upscaler = Upscaler("tiny.safetensors", device="cpu", engine="torch")
        for number in (2, 7):
            wanted = upscaler.upscale(to_rgb(frames[number], look))
            np.testing.assert_array_equal(read_image(f"a_2x_{number}.png").pixels, wanted)

    def test_a_sheet_shows_them_beside_bicubic(self) -> None:
        make("a.mp4", tuple(range(0, 20 * 512, 512)), noise())
        code, out, lines = call("a.mp4 --frames 3,12 --sheet --json -q")
        assert (code, lines) == (0, [])
        found = json.loads(out)
        assert found["targets"] == ["a_2x_sheet.png"]
        assert found["frames"] == [{"frame": 3, "time": 0.12}, {"frame": 12, "time": 0.48}]
        height, width, _ = read_image("a_2x_sheet.png").pixels.shape
        assert height > 2 * 96 * 3 and width > 2 * 96 * 3
        assert call("a.mp4 --frames 3 --sheet -q")[0] == 2  # it exists
        assert call("a.mp4 --frames 3 --sheet -q -o s.png")[0] == 0

    def test_deep_ones_have_16_bits(self) -> None:
        make("a.mkv", encoder="ffv1", format="yuv420p10le")
        assert call("a.mkv --frames 0 -q")[0] == 0
        assert read_image("a_2x_0.png").pixels.dtype == np.uint16

    @pytest.mark.parametrize("degrees", [0, 90, 180, -90])
    @pytest.mark.parametrize("hflip", [False, True])
    def test_they_stand_upright(self, degrees: int, hflip: bool) -> None:
        pixels = noise(1)[0]
        with av.open("a.mp4", "w") as out:
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height = 64, 48
            stream.set_display_rotation(degrees, hflip=hflip)
            out.mux([*stream.encode(av.VideoFrame.from_ndarray(pixels)), *stream.encode()])
        orientation = look_at(Path("a.mp4")).look.orientation
        turned = np.rot90(pixels, degrees // 90)
        wanted = turned[:, ::-1] if hflip else turned
        np.testing.assert_array_equal(upright(pixels, orientation), wanted)


def test_without_pyav_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esc_sr.video.find_spec", lambda name: None)
    assert call("a.mp4") == (2, "", ['esc-sr: error: videos need PyAV: pip install "esc-sr[video]"'])
