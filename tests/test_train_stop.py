"""Ctrl-C and SIGTERM while a run reads, is taught, steps and validates: what is saved, and what stays."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from esc_sr.cli.train import app
from esc_sr.data.pool import PairPool
from esc_sr.errors import DataError
from esc_sr.train import checkpoint
from esc_sr.train.stop import Stop, Stopped, stop_signals

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="no such signals to a process there"),
    pytest.mark.usefixtures("one_thread"),  # as the processes, for results that are equal to the last bit
]

RECIPE = '''
import os, time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from esc_sr.train.losses import Distance
from esc_sr.train.recipes import Classic, RealMSE


def wait(where, seconds=300):
    """Tell the test where the run is, and take long."""
    if os.environ.get("WAIT_AT") == where:
        Path("here").touch()
        for _ in range(10 * seconds):
            time.sleep(0.1)


class Slow(nn.Module):
    """Counts its calls, and takes long in one of them, in the middle of a step."""

    def __init__(self):
        super().__init__()
        self.distance = Distance("l1")
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, found, wanted):
        self.calls += 1
        wait(f"part {int(self.calls)}")
        return self.distance(found, wanted)


class Slowly:
    def objective(self, setup):
        return Slow()

    def pictures(self, setup):
        found = super().pictures(setup)
        wait("reading")
        return found

    def batches(self, crops, setup, pool, start):
        for step, batch in enumerate(super().batches(crops, setup, pool, start), start):
            wait(f"batch {step}")
            yield batch

    def validate(self, network, pairs, scale):
        wait("validation")
        return super().validate(network, pairs, scale)


@dataclass(frozen=True)
class Plain(Slowly, Classic):
    pass


@dataclass(frozen=True)
class Real(Slowly, RealMSE):
    pass
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures to train on and to validate with, and recipes that can be slow."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("in/0.png", "in/1.png", "val/2.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (44, 48, 3), dtype=np.uint8)).save(name)
    Path("slow.py").write_text(RECIPE)
    sys.modules.pop("slow", None)  # of the test before
    return tmp_path


def command(recipe: str, out: str, *more: str) -> list[str]:
    of_recipe = ("--recipe", f"slow.py:{recipe}", "--model", "esc-light", "--blocks", "1", "--scale", "2")
    run = ("--data", "in", "--out", out, "--device", "cpu", "--log-every", "1", "--iterations", "4")
    return [*of_recipe, *run, "--patch", "8", *more]


PLAIN = ("--batch", "4", "--set", "accumulate=2")
REAL = ("--batch", "2", "--set", "accumulate=2", "--set", "pool=2", "--set", "context=10")


def go(arguments: Sequence[str]) -> str:
    """Run to the end, in this process."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    return done.output


def stop_at(where: str, arguments: Sequence[str], *signals: int) -> tuple[int, str]:
    """Send signals when the run is somewhere; its exit code and what it said, within a generous minute."""
    with subprocess.Popen(
        [sys.executable, "-m", "esc_sr", "train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"WAIT_AT": where, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            until = time.monotonic() + 100
            while not Path("here").exists():
                assert process.poll() is None and time.monotonic() < until, "it never came there"
                time.sleep(0.05)
            for number in signals:
                process.send_signal(number)
                time.sleep(0.3)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    Path("here").unlink()
    assert "Traceback" not in said
    return process.returncode, said


def assert_same_end(one: str, other: str) -> None:
    a, b = (checkpoint.load(Path(out)) for out in (one, other))
    for part in ("model", "ema", "objective", "optimizer", "pool"):
        torch.testing.assert_close(a[part], b[part], rtol=0, atol=0)
    assert a["iteration"] == b["iteration"] == 4


def test_before_the_first_step_nothing_stays_behind(here: Path) -> None:
    code, said = stop_at("reading", command("Plain", "runs/a", *PLAIN), signal.SIGTERM)
    assert code == 130 and said.endswith("esc-sr: interrupted\n")
    assert not Path("runs").exists()


def test_a_step_is_broken_off_in_a_part_and_taken_again(here: Path) -> None:
    go(command("Plain", "whole", *PLAIN))
    calls = int(checkpoint.load(Path("whole"))["objective"]["calls"])
    assert calls == 8
    code, said = stop_at("part 6", command("Plain", "broken", *PLAIN), signal.SIGINT)
    assert code == 0 and "stopped and saved: broken/last.pt" in said
    saved = checkpoint.load(Path("broken"))
    assert saved["iteration"] == 2 and int(saved["objective"]["calls"]) == 4
    go(command("Plain", "broken", *PLAIN, "--resume"))
    assert_same_end("whole", "broken")


def test_a_pool_is_as_before_the_step_that_was_broken_off(here: Path) -> None:
    go(command("Real", "whole", *REAL))
    code, _ = stop_at("batch 3", command("Real", "broken", *REAL), signal.SIGTERM)
    assert code == 0 and checkpoint.load(Path("broken"))["iteration"] == 3
    go(command("Real", "broken", *REAL, "--resume"))
    assert_same_end("whole", "broken")


def test_a_validation_is_broken_off(here: Path) -> None:
    arguments = command("Plain", "runs", *PLAIN, "--val", "val", "--val-every", "2")
    code, said = stop_at("validation", arguments, signal.SIGINT)
    assert code == 0 and "stopped and saved" in said and "held out" not in said
    saved = checkpoint.load(Path("runs"))
    assert saved["iteration"] == 2 and not saved["scores"]
    assert "step       4  held out" in go([*arguments, "--resume"])


def test_a_last_validation_that_was_broken_off_is_made_up_for(here: Path) -> None:
    arguments = command("Plain", "runs", *PLAIN, "--val", "val")
    code, said = stop_at("validation", arguments, signal.SIGINT)
    assert code == 0 and "stopped and saved" in said
    log = [json.loads(line) for line in Path("runs/log.jsonl").read_text().splitlines()]
    assert log[-1]["event"] == "stopped"
    said = go([*arguments, "--resume"])
    assert "step       4  held out" in said and "done: " in said


def test_a_second_signal_ends_it_at_once(here: Path) -> None:
    Path("slow.py").write_text(
        RECIPE.replace(
            "    def validate",
            "    def card(self):\n        wait('saving')\n        return {}\n\n    def validate",
        )
    )
    code, said = stop_at("saving", command("Plain", "runs", *PLAIN), signal.SIGINT, signal.SIGINT)
    assert code == 130 and said.endswith("esc-sr: interrupted\n")


def test_a_run_that_fails_leaves_no_empty_folder(here: Path) -> None:
    Path("mine").mkdir()
    for out in ("runs/deep/x", "mine"):
        failed = CliRunner().invoke(app, command("Plain", out, "--patch", "32")).exception
        assert isinstance(failed, DataError) and "at least 64 x 64 needed" in str(failed)
    assert not Path("runs").exists() and Path("mine").exists()


def test_a_teacher_is_broken_off_and_keeps_what_it_has_made(here: Path) -> None:
    Path("slow.py").write_text(
        RECIPE
        + """
from esc_sr.train.teacher import Upscaler
whole = Upscaler.upscale

def slow(self, *arguments):
    wait("teacher")
    return whole(self, *arguments)

if "WAIT_AT" in os.environ:
    Upscaler.upscale = slow
"""
    )
    arguments = command("Plain", "runs", *PLAIN, "--teacher", "esc-light")
    code, said = stop_at("teacher", arguments, signal.SIGINT)
    assert code == 130 and said.endswith("esc-sr: interrupted\n")
    assert not Path("runs").exists()
    go(arguments)
    assert len(list(Path("runs/teacher").rglob("*.npy"))) == 2


def test_readers_do_not_hold_up_a_stop(here: Path) -> None:
    Path("slow.py").write_text(
        RECIPE
        + """
@dataclass(frozen=True)
class Sluggish(Classic):
    def cut(self, picture, generator, scale):
        time.sleep(3)
        Path("here").touch()
        return super().cut(picture, generator, scale)
"""
    )
    more = ("--batch", "64", "--set", "accumulate=64", "--workers", "2")
    code, said = stop_at("", command("Sluggish", "runs", *more), signal.SIGINT)
    assert code == 130 and said.endswith("esc-sr: interrupted\n")


def test_what_a_pool_told_of_itself_stays_so() -> None:
    pool, generator = PairPool(4), torch.Generator()
    for _ in range(2):
        pool.exchange(torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8), generator)
    told = pool.state_dict()
    before = {name: pairs.clone() for name, pairs in told.items()}
    pool.exchange(torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8), generator)
    torch.testing.assert_close(told, before, rtol=0, atol=0)
    assert not torch.equal(pool.state_dict()["lr"], before["lr"])


def test_a_signal_is_remembered_where_it_may_not_break_in() -> None:
    with stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wished
        with pytest.raises(Stopped), stop.at_once():
            pytest.fail("reached")
    with pytest.raises(Stopped), stop_signals() as stop, stop.at_once():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    with Stop().at_once(False):
        pass
