"""`esc-sr upscale --watch`: pictures that come in pieces, late or damaged; runs that begin anew."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import esc_sr
from esc_sr.cli.main import app
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.image import Picture, read_image, write_image
from esc_sr.machine.claim import Claim
from esc_sr.upscaling import watch
from esc_sr.upscaling.files import CLAIMED, Job, Outcome
from esc_sr.weights import save
from pictures import noise

Step = Callable[[], object]


class Time:
    """Passes when somebody sleeps, who is woken by what happens then; Ctrl-C at the end."""

    def __init__(self, steps: dict[int, Step], end: int) -> None:
        self.now, self._steps, self._end = 0, steps, end

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds == 1
        self.now += 1
        self._steps.get(self.now, lambda: None)()
        if self.now == self._end:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save(ESC(ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)), "tiny.safetensors")
    Path("in/deep").mkdir(parents=True)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, str]]:
    def watched(steps: dict[int, Step] | None = None, end: int = 20, *options: str) -> tuple[str, str]:
        time = Time(steps or {}, end)
        monkeypatch.setattr(watch, "monotonic", time.monotonic)
        monkeypatch.setattr(watch, "sleep", time.sleep)
        command = ["upscale", "in", "-o", "out", "--watch", "-n", "tiny.safetensors", *options]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 130 and result.stderr.endswith("esc-sr: interrupted\n"), result.output
        lines = [line for line in result.stderr.splitlines()[:-1] if "in one piece" not in line]
        return result.stdout, "\n".join(lines)

    return watched


def picture(path: str, height: int = 20) -> bytes:
    write_image(Picture(noise(height, 24, 3)), path, overwrite=True)
    return Path(path).read_bytes()


def outputs() -> list[str]:
    return sorted(str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file())


def test_pictures_are_done_when_they_are_whole(run: Callable[..., tuple[str, str]]) -> None:
    picture("in/a.png")
    data = picture("b.png", 40)
    done: dict[int, list[str]] = {}
    parts = {step: (lambda step=step: append("in/deep/b.png", data, step)) for step in range(1, 9)}
    looks: dict[int, Step] = {
        12: lambda: done.update({12: outputs()}),
        3: lambda: done.update({3: outputs()}),
    }
    out, err = run({**looks, **{step: both(parts[step], looks.get(step)) for step in parts}})
    assert done[3] == ["a_2x.png"] and outputs() == ["a_2x.png", "deep/b_2x.png"] == done[12]
    assert err == "" and out.count(" -> ") == 2
    np.testing.assert_array_equal(read_image("out/deep/b_2x.png").pixels, expected("b.png"))


def both(first: Step, second: Step | None) -> Step:
    return lambda: (first(), second() if second else None)


def append(path: str, data: bytes, step: int) -> None:
    """An eighth of a file more."""
    size = -(-len(data) // 8)
    with open(path, "ab") as file:
        file.write(data[(step - 1) * size : step * size])


def expected(path: str) -> np.ndarray:
    found: np.ndarray = esc_sr.upscale(path, "tiny.safetensors")
    return found


def test_what_stalls_is_not_damaged_before_its_time(run: Callable[..., tuple[str, str]]) -> None:
    data = picture("whole.png")
    Path("in/slow.png").write_bytes(data[:-50])
    Path("in/bad.png").write_bytes(data[:-50])
    steps: dict[int, Step] = {20: lambda: Path("in/slow.png").write_bytes(data)}
    out, err = run(steps, 25)
    assert err == "" and out.startswith("in/slow.png 24x20 -> out/slow_2x.png")
    out, err = run({40: lambda: Path("in/bad.png").write_bytes(data)}, 80)
    assert err.count("error: cannot read in/bad.png: not a complete PNG") == 1 and "slow" not in out + err
    assert outputs() == ["bad_2x.png", "slow_2x.png"]


def test_runs_end_and_begin_anew(run: Callable[..., tuple[str, str]]) -> None:
    picture("in/a.png")
    assert run()[0].count(" -> ") == 1
    before = Path("out/a_2x.png").stat()
    picture("in/b.png")
    out, err = run({8: lambda: os.remove("out/b_2x.png")})
    assert out.count("in/b.png 24x20 -> ") == 1 and "a.png" not in out and err == ""
    assert Path("out/a_2x.png").stat() == before and outputs() == ["a_2x.png"]
    assert run({8: lambda: picture("in/b.png", 16)})[0].count("in/b.png") == 1  # still or again not there
    assert outputs() == ["a_2x.png", "b_2x.png"]


def test_other_runs_and_folders_that_are_gone_for_a_while(run: Callable[..., tuple[str, str]]) -> None:
    picture("in/a.png")
    Path("out").mkdir()
    claim = Claim("out/a_2x.png")
    out, err = run(
        {10: claim.close, 15: lambda: os.rename("in", "away"), 20: lambda: os.rename("away", "in")}, 25
    )
    assert out.count(" -> ") == 1 and err.count("in: no such file") == 1
    assert err.count("\n") == 0


def test_two_that_would_be_one_stop_no_other(run: Callable[..., tuple[str, str]]) -> None:
    picture("in/a.jpg")
    picture("in/a.png")
    out, err = run({8: lambda: picture("in/late.png")}, 20, "-f", "png")
    assert outputs() == ["a_2x.png", "late_2x.png"] and out.count(" -> ") == 2
    assert err.startswith("esc-sr: error: in/a.png: would become out/a_2x.png, as in/a.jpg does; rename one")
    assert err.count("\n") == 0


def test_what_became_of_a_file_counts_once() -> None:
    arrivals, job = watch.Arrivals(), Job(Path("tiny.safetensors"), Path("out"))
    assert arrivals.whole([job]) == []
    assert not arrivals.counts(Outcome(job.source, job.target, "skipped", CLAIMED))
    assert not arrivals.counts(Outcome(job.source, job.target, "failed", "no picture"))
    assert arrivals.counts(Outcome(job.source, job.target, "failed", "no picture"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("in", "-o", "out", "--overwrite"), "--watch and --overwrite exclude each other"),
        (("in",), "--watch needs -o and another folder"),
        (("in", "-o", "tiny.safetensors"), "--watch needs -o and another folder"),
        (("in", "-o", "in/deep/.."), "in/deep/..: is watched itself"),
        (("no", "-o", "out"), "no: no folder, and --watch waits"),
        (("-", "-o", "-"), "-: no folder, and --watch waits"),
        (("", "-o", "out"), "an empty name stands for no file or folder"),
        (("in", "-o", ""), "an empty name stands for no file or folder"),
    ],
)
def test_mistakes(options: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, ["upscale", "--watch", *options])
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1
