"""A run that was broken off ends with the file of an unbroken one, and equal frames are computed once."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor
from typer.testing import CliRunner

from esc_sr.cli.main import app
from esc_sr.errors import EscError
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.machine.claim import Claim
from esc_sr.upscaling.engine import Upscaler
from esc_sr.video import run
from esc_sr.video.clip import look_at
from esc_sr.video.coding import Coding
from esc_sr.video.look import from_rgb, to_rgb
from esc_sr.video.run import VideoPlan, VideoResult, plan_video, upscale_video
from esc_sr.video.segments import SegmentWriter
from esc_sr.weights import save
from video_clips import UNEVEN, Twice, make, moving, see

PART = Path("b.mp4.part")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder; pieces have three frames."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "_PIECE_FRAMES", (3, 3))


class Counted(Twice):
    """Counts its pictures, and is broken off before one of them."""

    def __init__(self, ends_before: int = 10**9, error: type[BaseException] = KeyboardInterrupt) -> None:
        super().__init__()
        self.calls, self.ends_before, self.error = 0, ends_before, error

    def forward(self, image: Tensor) -> Tensor:
        if self.calls == self.ends_before:
            raise self.error
        self.calls += 1
        return super().forward(image)


def planned(
    network: Counted, source: str = "a.mp4", target: str = "b.mp4", **how: Any
) -> tuple[VideoPlan, Upscaler]:
    upscaler = Upscaler(network, 2, device="cpu")
    return plan_video(look_at(Path(source)), Path(target), upscaler, Coding(**how)), upscaler


def enlarge(network: Counted, source: str = "a.mp4", target: str = "b.mp4", **how: Any) -> VideoResult:
    plan, upscaler = planned(network, source, target, **how)
    return upscale_video(plan, upscaler, {"model": "twice"})


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("ends_before", [4, 9])
@pytest.mark.parametrize("kept", [True, False])
def test_a_broken_run_ends_with_the_same_file(
    suffix: str, ends_before: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_KEPT_AFTER", -1 if kept else 10**9)
    source, target = f"a{suffix}", f"b{suffix}"
    make(source, UNEVEN)
    enlarge(Counted(), source, f"unbroken{suffix}")
    with pytest.raises(KeyboardInterrupt):
        enlarge(Counted(ends_before), source, target)
    assert not Path(target).exists() and Path(f"{target}.part", "manifest.json").exists()
    network = Counted()
    status = enlarge(network, source, target).status
    saved = ends_before if kept else ends_before // 3 * 3
    assert (network.calls, status.computed, status.taken) == (10 - saved, 10 - saved, saved)
    unbroken, gone_on = see(f"unbroken{suffix}"), see(target)
    assert unbroken.packets == gone_on.packets
    if suffix == ".mp4":
        assert Path("unbroken.mp4").read_bytes() == Path("b.mp4").read_bytes()
    assert not Path(f"{target}.part").exists()


def test_a_run_goes_on_with_the_threads_of_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    make("a.mp4", UNEVEN)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    enlarge(Counted(), target="unbroken.mp4")
    with pytest.raises(KeyboardInterrupt):
        enlarge(Counted(4))
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    plan, _ = planned(Counted())
    assert plan.settings.threads == 1 and planned(Counted(), target="c.mp4")[0].settings.threads == 5
    enlarge(Counted())
    assert see("b.mp4").packets == see("unbroken.mp4").packets


SLOW = """
import sys, time
from pathlib import Path
from esc_sr.upscaling.engine import Upscaler
from esc_sr.video import run
from esc_sr.video.clip import look_at
from esc_sr.video.coding import Coding
from test_video_resume import Counted

class Slow(Counted):
    def forward(self, image):
        time.sleep(0.15)
        return super().forward(image)

run._PIECE_FRAMES = (3, 3)
upscaler = Upscaler(Slow(), 2, device="cpu")
plan = run.plan_video(look_at(Path("a.mp4")), Path("b.mp4"), upscaler, Coding())
run.upscale_video(plan, upscaler, {"model": "twice"})
"""


@pytest.mark.skipif(os.name == "nt", reason="nothing kills like SIGKILL there")
def test_a_run_that_was_killed_ends_with_the_same_file() -> None:
    make("a.mp4", UNEVEN)
    enlarge(Counted(), target="unbroken.mp4")
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen([sys.executable, "-c", SLOW], env={**os.environ, "PYTHONPATH": path})
    ends = time.monotonic() + 60
    while not (PART / "000001.json").exists():
        assert process.poll() is None and time.monotonic() < ends
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not Path("b.mp4").exists()
    network = Counted()
    status = enlarge(network).status
    assert status.taken >= 6 and network.calls == 10 - status.taken
    assert Path("unbroken.mp4").read_bytes() == Path("b.mp4").read_bytes()
    assert sorted(path.name for path in Path().iterdir()) == ["a.mp4", "b.mp4", "unbroken.mp4"]


def test_pieces_that_are_cut_off_are_made_again() -> None:
    make("a.mp4")
    enlarge(Counted(), target="unbroken.mp4")
    with pytest.raises(KeyboardInterrupt):
        enlarge(Counted(9))
    (PART / "000000.piece").write_bytes((PART / "000000.piece").read_bytes()[:-5])
    (PART / "000001.json").write_text("{")
    assert enlarge(Counted()).status.computed == 7
    assert Path("unbroken.mp4").read_bytes() == Path("b.mp4").read_bytes()


def test_the_beginning_of_another_run_is_not_gone_on_with() -> None:
    make("a.mp4")
    with pytest.raises(KeyboardInterrupt):
        enlarge(Counted(5))
    with pytest.raises(EscError, match=r"b\.mp4\.part: .* differs in options; --overwrite begins anew"):
        enlarge(Counted(), quality=30)
    plan, upscaler = planned(Counted())
    with pytest.raises(EscError, match="differs in network"):
        upscale_video(plan, upscaler, {"model": "another"})
    make("a.mp4", frames=moving(11)[1:])
    with pytest.raises(EscError, match="differs in input"):
        enlarge(Counted())
    plan, upscaler = planned(Counted(), quality=30)
    assert upscale_video(plan, upscaler, {}, overwrite=True).status.computed == 10
    assert not PART.exists()


@pytest.mark.parametrize("encoder", ["libx264", "libx265"])
def test_an_encoder_gives_the_same_packets_every_time(encoder: str) -> None:
    """x264's AVX-512 does not, of frames like these: enlarged ones that had been compressed."""
    make("a.mp4", tuple(range(0, 30 * 512, 512)), moving(30, 60, 80))
    plan, upscaler = planned(Counted(), encoder=encoder)
    look = plan.clip.look
    frames = [upscaler.upscale(to_rgb(frame, look)) for frame in see("a.mp4").frames[27:]]
    found = set()
    for _ in range(25):
        writer = SegmentWriter(Path("piece"), plan.settings)
        for place, pixels in enumerate(frames):
            writer.add(from_rgb(pixels, plan.settings.look), 512 * place)
        writer.finish(0)
        found.add(Path("piece").read_bytes())
    assert len(found) == 1


def test_the_number_of_cores_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    make("a.mp4")
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    enlarge(Counted(), target="unbroken.mp4")
    with pytest.raises(KeyboardInterrupt):
        enlarge(Counted(5))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    enlarge(Counted())
    assert Path("unbroken.mp4").read_bytes() == Path("b.mp4").read_bytes()


def test_nothing_is_left_where_nothing_was_done() -> None:
    make("a.mp4")
    with pytest.raises(ArithmeticError):
        enlarge(Counted(0, ArithmeticError))
    with pytest.raises(EscError, match="libx264 refuses"):
        enlarge(Counted(), preset="nonsense")
    assert sorted(path.name for path in Path().iterdir()) == ["a.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="a file may have any size there")
@pytest.mark.parametrize("size", [500, 30_000])
def test_a_full_disk_is_one_line_and_the_run_goes_on(size: int) -> None:
    import resource

    draw = np.random.default_rng(0)
    make("a.mp4", frames=[draw.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(10)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with pytest.raises(EscError, match="(cannot write|cannot be written).*File too large"):
            enlarge(Counted())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not Path("b.mp4").exists() and PART.exists() == (size > 500)
    assert enlarge(Counted()).status.taken == (10 if size > 500 else 0)


def test_what_was_saved_stays_when_a_run_ends_before_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    make("a.mp4")
    with pytest.raises(KeyboardInterrupt):
        enlarge(Counted(7))
    with monkeypatch.context() as patched:
        patched.setattr(run, "rehearse", lambda *some: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            enlarge(Counted())
    assert enlarge(Counted()).status.taken == 6


def test_an_output_has_one_maker() -> None:
    make("a.mp4")
    with closing(Claim("b.mp4")), pytest.raises(EscError, match="another run is writing it"):
        enlarge(Counted())


def test_equal_frames_are_computed_once() -> None:
    frames = moving(10)
    frames = [frames[place] for place in (0, 0, 0, 3, 3, 4, 0, 0, 8, 8)]
    make("a.mkv", frames=frames, encoder="ffv1")
    network = Counted()
    status = enlarge(network, "a.mkv", "b.mkv", encoder="ffv1").status
    assert (network.calls, status.computed, status.repeated, status.frames) == (6, 6, 4, 10)
    shown = see("b.mkv").frames
    assert len(shown) == 10
    np.testing.assert_array_equal(shown[0].to_ndarray(), shown[2].to_ndarray())
    assert (shown[5].to_ndarray() != shown[3].to_ndarray()).any()


def test_almost_equal_frames_are_computed() -> None:
    first = np.full((24, 32, 3), 100, np.uint8)
    second = first.copy()
    second[5, 5] += 3
    make("a.mkv", (0, 512), [first, second], encoder="ffv1", format="yuv444p")
    assert enlarge(Counted(), "a.mkv", "b.mkv").status.repeated == 0


def test_the_counts_of_a_broken_run_are_those_of_an_unbroken_one() -> None:
    frames = moving(10)
    make("a.mkv", frames=[frames[place] for place in (0, 0, 0, 0, 0, 5, 5, 5, 5, 5)], encoder="ffv1")
    unbroken = enlarge(Counted(), "a.mkv", "unbroken.mkv").status
    with pytest.raises(KeyboardInterrupt):
        enlarge(Counted(3), "a.mkv", "b.mkv")
    status = enlarge(Counted(), "a.mkv", "b.mkv").status
    assert (status.frames, status.repeated) == (unbroken.frames, unbroken.repeated)


class TestCommand:
    @pytest.fixture(autouse=True)
    def tiny(self, here: None) -> None:
        make("a.mp4")
        save(ESC(ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)), "tiny.safetensors")

    def call(self, *options: str) -> Any:
        line = ["video", "a.mp4", "-n", "tiny.safetensors", "--device", "cpu", "--engine", "torch", *options]
        result = CliRunner().invoke(app, line)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def test_ctrl_c_says_how_to_go_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        upscale, calls = Upscaler.upscale, iter(range(100))

        def interrupted(self: Upscaler, image: Any, *more: Any) -> Any:
            if next(calls) == 7:
                raise KeyboardInterrupt
            return upscale(self, image, *more)

        monkeypatch.setattr(Upscaler, "upscale", interrupted)
        result = self.call("--quiet")
        assert result.exit_code == 130
        said = "esc-sr: 6 frames are saved; the same command goes on with them\nesc-sr: interrupted\n"
        assert result.stderr == said
        result = self.call("--json")
        assert result.exit_code == 0
        found = json.loads(result.stdout)
        assert (found["frames"], found["computed"], found["taken"]) == (10, 4, 6)
        assert "goes on after 6 frames that are done in a_2x.mp4.part" in result.stderr
        assert see("a_2x.mp4").times == see("a.mp4").times

    def test_what_was_begun_anew_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        upscale, ends = Upscaler.upscale, [7, 4, 99]

        def interrupted(self: Upscaler, image: Any, *more: Any) -> Any:
            ends[0] -= 1
            if ends[0] < 0:
                ends.pop(0)
                raise KeyboardInterrupt
            return upscale(self, image, *more)

        monkeypatch.setattr(Upscaler, "upscale", interrupted)
        assert self.call().exit_code == 130
        result = self.call("--overwrite")
        assert "esc-sr: 3 frames are saved; the same command goes on with them" in result.stderr
        found = json.loads(self.call("--overwrite", "--json").stdout)
        assert (found["computed"], found["taken"]) == (7, 3)
        assert json.loads(self.call("--overwrite", "--json").stdout)["taken"] == 0

    def test_the_line_says_what_was_done(self) -> None:
        make("a.mp4", frames=[moving(1)[0]] * 10, options={"qp": "0"})
        result = self.call()
        assert result.exit_code == 0, result.stderr
        start = "a.mp4 32x24 -> a_2x.mp4 64x48, 10 frames (6 equal to the one before), tiny.safetensors x2"
        assert result.stdout.startswith(start) and "libx264 yuv420p" in result.stdout
        again = self.call()
        assert again.exit_code == 2 and "a_2x.mp4: exists already; --overwrite replaces it" in again.stderr
        assert self.call("--overwrite", "--end", "0.2").exit_code == 0
        assert len(see("a_2x.mp4").times) == 5
