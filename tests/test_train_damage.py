"""Checkpoints of runs that are damaged: the one before is taken, saying so, or the end is one line."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from esc_sr.cli.train import app
from esc_sr.errors import DataError, EscError, UsageError, WeightsError
from esc_sr.train import checkpoint
from test_train_checkpoint import PLAN, make_state, write


def moved_state(iteration: int) -> checkpoint.State:
    """After a step, so that the optimizer knows something."""
    state = make_state(iteration)
    state.model(torch.ones(1, 1, 3, 3)).sum().backward()
    state.optimizer.step()
    return state


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of a run that has saved after steps 1 and 2."""
    for iteration in (1, 2):
        write(moved_state(iteration), tmp_path)
    return tmp_path


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    place = data.index(b"data/1") + 100  # among the numbers
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("damage", [cut, flipped, lambda data: b"", lambda data: bytes(len(data))])
def test_the_checkpoint_before_is_taken_and_told(out: Path, damage: Callable[[bytes], bytes]) -> None:
    path, notes = out / "last.pt", list[str]()
    path.write_bytes(damage(path.read_bytes()))
    assert checkpoint.load(out, notes.append)["iteration"] == 1
    (said,) = notes
    assert said.startswith(f"{out}: last.pt is damaged (") and said.endswith(
        "; going on from previous.pt, of step 1"
    )
    (out / "previous.pt").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"last\.pt is damaged .* and previous\.pt is damaged") as caught:
        checkpoint.load(out)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [cut, flipped])
def test_a_damaged_checkpoint_does_not_replace_the_one_before(
    out: Path, damage: Callable[[bytes], bytes]
) -> None:
    path, before = out / "last.pt", (out / "previous.pt").read_bytes()
    path.write_bytes(damage(path.read_bytes()))
    write(moved_state(2), out)
    assert (out / "previous.pt").read_bytes() == before
    assert checkpoint.load(out)["iteration"] == 2


def test_the_checkpoint_before_alone(out: Path) -> None:
    (out / "last.pt").unlink()
    notes: list[str] = []
    assert checkpoint.load(out, notes.append)["iteration"] == 1
    assert notes == [f"{out}: last.pt is missing; going on from previous.pt, of step 1"]


@pytest.mark.parametrize("part", ["model", "ema"])
def test_weights_that_are_not_finite_replace_none(out: Path, part: str) -> None:
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    state = moved_state(3)
    with torch.no_grad():
        next(getattr(state, part).parameters()).view(-1)[0] = float("nan")
    with pytest.raises(DataError, match="no longer finite after step 3; the checkpoint before it is intact"):
        write(state, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    content = torch.load(out / "last.pt")
    content[part] = getattr(state, part).state_dict()
    torch.save(content, out / "last.pt")  # as an older esc-sr did
    assert checkpoint.load(out)["iteration"] == 1


def test_mutated_files_are_taken_as_they_were_or_not_at_all(out: Path) -> None:
    chance, path = random.Random(4), out / "last.pt"
    whole, wanted, fell_back = path.read_bytes(), checkpoint.load(out), 0
    for _ in range(300):
        data = bytearray(whole)
        kind, place = chance.randrange(4), chance.randrange(len(whole))
        if kind == 0:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[place : place + chance.randrange(1, 400)] = chance.randbytes(chance.randrange(400))
        elif kind == 2:
            data[place:] = bytes(chance.choice((0, len(whole) - place)))
        else:
            other = chance.randrange(len(whole))
            data[place : place + 64] = whole[other : other + 64]
        path.write_bytes(data)
        found = checkpoint.load(out)
        if found["iteration"] == 1:
            fell_back += 1
        else:
            assert str(found) == str(wanted)
    assert fell_back > 150


STRANGE: list[Any] = [
    None,
    -1,
    2.5,
    float("nan"),
    "many",
    [],
    {},
    {"a": 1},
    [[1]],
    torch.zeros(2),
    torch.zeros(0),
]


def changed(value: Any, chance: random.Random) -> Any:
    """A copy of nested containers with one entry changed, or gone."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.2:
        return chance.choice(STRANGE)
    copied = value.copy()
    place = chance.choice(list(copied) if isinstance(copied, dict) else range(len(copied)))
    if chance.random() < 0.15:
        del copied[place]
    else:
        copied[place] = changed(copied[place], chance)
    return copied


def test_contents_of_another_kind_go_on_or_are_told_in_one_line(out: Path) -> None:
    chance, content = random.Random(5), torch.load(out / "last.pt")
    (out / "previous.pt").unlink()
    refused = 0
    for _ in range(300):
        given = changed(content, chance)
        torch.save(given, out / "last.pt")
        try:
            state = make_state()
            checkpoint.restore(state, checkpoint.load(out), PLAN)
        except EscError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100


def test_a_run_goes_on_from_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save("in/0.png")
    sizes = ("--model", "esc-light", "--blocks", "1", "--scale", "2", "--batch", "1", "--patch", "8")
    run = ("--data", "in", "--out", "run", "--device", "cpu", "--set", "accumulate=1", "--save-minutes", "0")
    arguments = ["classic", *sizes, *run]
    assert CliRunner().invoke(app, [*arguments, "--iterations", "2"]).exit_code == 0
    last = Path("run/last.pt")
    last.write_bytes(cut(last.read_bytes()))
    done = CliRunner().invoke(app, [*arguments, "--iterations", "3", "--resume"])
    assert done.exit_code == 0, done.exception
    assert (
        "run: last.pt is damaged (" in done.output and "going on from previous.pt, of step 2" in done.output
    )
    assert checkpoint.load(Path("run"))["iteration"] == 3
    last.unlink()
    failed = CliRunner().invoke(app, arguments).exception
    assert isinstance(failed, UsageError) and str(failed).startswith(
        "run: holds a run already; go on with --resume"
    )
