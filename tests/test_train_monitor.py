"""What a run leaves in its folder beside weights: validations, pictures of them, curves."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from esc_sr.errors import UsageError
from esc_sr.evaluate import Scores, predict
from esc_sr.evaluate.scores import bicubic
from esc_sr.image import read_image
from esc_sr.image.sheet import Panel, strip
from esc_sr.train.feed import Data
from esc_sr.train.monitor import RunOptions
from esc_sr.train.recipes import Classic
from esc_sr.train.run import Model
from esc_sr.train.run import run as train
from esc_sr.train.schedule import Budget
from test_train_loop import make_pairs_of_blobs, make_state, read_log, resume, run


def test_validation_every_so_many_steps_leaves_scores_and_a_picture(tmp_path: Path) -> None:
    state, pairs = make_state(), make_pairs_of_blobs()
    run(state, tmp_path, Budget(iterations=6), held_out=pairs, options=RunOptions(val_minutes=0, val_every=3))
    validations = [record for record in read_log(tmp_path) if record["event"] == "validation"]
    assert [record["iteration"] for record in validations] == [3, 6]  # the end is not done twice
    pictures = sorted((tmp_path / "validation").iterdir())
    assert [path.name for path in pictures] == ["000003.png", "000006.png"]
    before, after = (read_image(path).pixels for path in pictures)
    panels = [
        Panel("blobs, bicubic", bicubic(pairs[0].lr, 2)),
        Panel("step 6", np.asarray(predict(state.ema, pairs[0].lr, 2))),
        Panel("HR", pairs[0].hr),
    ]
    assert np.array_equal(after, strip(panels))
    assert before.shape == after.shape and not np.array_equal(before, after)


def test_the_best_of_a_run_stays_when_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported: list[str] = []
    validate = Classic.validate
    worse = iter((0.0, 5.0))

    def falling(self: Classic, *given: Any) -> Scores:
        found = validate(self, *given)
        return found._replace(psnr=found.psnr - next(worse))

    monkeypatch.setattr(Classic, "validate", falling)
    pairs = make_pairs_of_blobs()
    run(make_state(), tmp_path, Budget(iterations=2), held_out=pairs, export=exported.append)
    assert exported.count("best") == 1
    state = resume(tmp_path)
    assert state.best is not None and state.best == state.scores["psnr"]
    run(state, tmp_path, Budget(iterations=4), held_out=pairs, export=exported.append)
    assert state.iteration == 4 and exported.count("best") == 1


def test_tensorboard_gets_the_numbers_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "tensorboard")

        def add_scalar(self, name: str, value: float, step: int) -> None:
            drawn.append((name, value, step))

        def flush(self) -> None: ...

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    options = RunOptions(log_every=1, tensorboard=True)
    run(make_state(), tmp_path, Budget(iterations=2), held_out=make_pairs_of_blobs(), options=options)
    first, second, validation, _ = read_log(tmp_path)
    names = ("loss", "lr", "it_per_s")
    assert drawn == [
        *((name, first[name], 1) for name in names),
        ("losses/l1", first["losses"]["l1"], 1),
        *((name, second[name], 2) for name in names),
        ("losses/l1", second["losses"]["l1"], 2),
        ("psnr", validation["psnr"], 2),
        ("ssim", validation["ssim"], 2),
    ]


def test_tensorboard_that_is_missing_is_said_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    options = RunOptions(tensorboard=True)
    with pytest.raises(UsageError, match=r'pip install "esc-sr\[tensorboard\]"'):
        train(Classic(), Model("esc-light", 2), Data([]), tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()
