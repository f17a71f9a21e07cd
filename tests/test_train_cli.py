"""`esc-sr train classic` from pictures to weights, and what it refuses before the first step."""

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

from esc_sr import weights
from esc_sr.cli import train as train_command
from esc_sr.cli.train import app
from esc_sr.errors import DataError, EscError, UsageError, WeightsError
from esc_sr.families.lte import EncoderLTE
from esc_sr.train.monitor import RunOptions
from esc_sr.train.step import prepare


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        smooth = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
            (40, 36), Image.Resampling.BICUBIC
        )
        smooth.save(folder / f"{i}.png")
    return folder


@pytest.fixture
def shard(pictures: Path, tmp_path: Path) -> Path:
    path = tmp_path / "val.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(pictures / "0.png", "0.png")
    return path


def classic(*arguments: object) -> Result:
    small = ("--batch", 1, "--patch", 8, "--device", "cpu", "--log-every", 1)
    return CliRunner().invoke(app, ["classic", *map(str, (*small, *arguments))])


def refused(kind: type[EscError], *arguments: object) -> str:
    result = classic(*arguments)
    assert isinstance(result.exception, kind), result.output
    message = str(result.exception)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("words", "convolutions", "products"),
    [((), True, False), (("--tf32",), True, True), (("--no-tf32",), False, False)],
)
def test_float32_is_the_default_on_cuda_too(
    words: tuple[str, ...], convolutions: bool, products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[RunOptions] = []
    monkeypatch.setattr(train_command, "own_device", torch.device)
    monkeypatch.setattr(train_command, "run", lambda *args, options, **others: given.append(options))
    assert classic("--data", "x", "--out", "y", "--device", "cuda", *words).exit_code == 0
    (options,) = given
    assert options.precision == "fp32" and options.device == "cuda"
    flags: tuple[Any, ...] = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [flag.allow_tf32 for flag in flags]
    try:
        prepare(nn.Identity(), tf32=options.tf32)
        assert [flag.allow_tf32 for flag in flags] == [convolutions, products]
    finally:
        for flag, was in zip(flags, before, strict=True):
            flag.allow_tf32 = was


def test_a_run_leaves_weights_with_their_card_and_goes_on(
    pictures: Path, shard: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = ("--data", pictures, "--val", shard, "--out", out)
    result = classic(*run, "--iterations", 2)
    assert result.exit_code == 0, result.exception
    assert "step       2  loss 0." in result.output
    assert "held out:" in result.output
    assert result.output.endswith(f"done: {out / 'ema.safetensors'}\n")

    card = weights.card(out / "ema.safetensors")
    assert card is not None
    assert (card["recipe"], card["model"], card["scale"], card["iterations"]) == (
        "classic",
        "esc-light",
        2,
        2,
    )
    assert card["data"] == {"pictures": 3}
    assert card["held_out"]["pictures"] == 1
    assert card["hardware"]
    assert str(tmp_path) not in json.dumps(card)
    model = weights.load(out / "ema.safetensors")
    assert model(torch.rand(1, 3, 8, 8)).shape == (1, 3, 16, 16)

    assert "holds a run already" in refused(UsageError, *run, "--iterations", 3)
    assert "lr was 0.0005 and is now 1" in refused(UsageError, *run, "--resume", "--set", "lr=1")
    assert "scale was 2 and is now 3" in refused(UsageError, *run, "--resume", "--scale", 3)
    result = classic(*run, "--iterations", 3, "--resume")
    assert result.exit_code == 0, result.exception
    assert "step       3" in result.output
    assert "step       2  loss" not in result.output


def test_a_network_of_few_blocks_is_grown(pictures: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "shallow", tmp_path / "whole"
    run = ("--data", pictures, "--iterations", 1)
    assert classic(*run, "--out", first, "--blocks", 1).exit_code == 0
    assert (weights.card(first / "ema.safetensors") or {})["blocks"] == 1
    start = first / "ema.safetensors"
    assert classic(*run, "--out", second, "--blocks", 2, "--from", start).exit_code == 0
    lr = torch.rand(1, 3, 8, 8)
    # The first step of a warm-up has the learning rate 0.
    assert torch.equal(weights.load(second / "ema.safetensors")(lr), weights.load(start)(lr))
    assert "esc-light has 3; give 1" in refused(UsageError, *run, "--out", tmp_path / "no", "--blocks", 4)


def test_auto_is_a_device_as_in_other_commands(pictures: Path, tmp_path: Path) -> None:
    (pictures / "._0.png").write_bytes(b"of another system")
    result = classic("--data", pictures, "--out", tmp_path, "--iterations", 1, "--device", "auto")
    assert result.exit_code == 0, result.exception
    assert (weights.card(tmp_path / "ema.safetensors") or {})["data"] == {"pictures": 3}


def test_another_scale_starts_from_given_weights(pictures: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "x2", tmp_path / "x3"
    assert classic("--data", pictures, "--out", first, "--iterations", 1).exit_code == 0
    start = first / "ema.safetensors"
    run = ("--data", pictures, "--out", second, "--scale", 3, "--patch", 4, "--iterations", 1)
    # The first step of a warm-up has the learning rate 0.
    assert classic(*run, "--from", start).exit_code == 0
    assert (weights.card(second / "ema.safetensors") or {})["started_from"] == "ema.safetensors"
    old, new = weights.load(start).state_dict(), weights.load(second / "ema.safetensors").state_dict()
    same = [name for name in old if old[name].shape == new[name].shape]
    assert len(same) == len(old) - 2
    torch.testing.assert_close([new[name] for name in same], [old[name] for name in same], rtol=0, atol=0)
    assert "exclude each other" in refused(UsageError, *run, "--resume", "--from", start)


def test_arguments_that_cannot_work_are_refused_before_the_first_step(pictures: Path, tmp_path: Path) -> None:
    run = ("--data", pictures, "--out", tmp_path / "out")
    assert "one of loss, iterations" in refused(UsageError, *run, "--set", "rate=1")
    assert "use fp32, bf16, fp16" in refused(UsageError, *run, "--precision", "fp8")
    assert "not both" in refused(UsageError, *run, "--minutes", 1, "--iterations", 5)
    assert "no network is called" in refused(UsageError, *run, "--model", "other")
    assert "at all scales" in refused(UsageError, *run, "--model", "esc-lte")
    assert "no device is called 'quantum'" in refused(UsageError, *run, "--device", "quantum")
    assert "no last.pt" in refused(UsageError, *run, "--resume")
    refused(WeightsError, *run, "--from", pictures / "missing.safetensors")
    (tmp_path / "file").write_text("")
    assert "cannot be made" in refused(UsageError, "--data", pictures, "--out", tmp_path / "file" / "out")


def test_data_that_cannot_be_used_is_named_before_the_first_step(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "no such folder" in refused(DataError, "--data", tmp_path / "no", "--out", out)
    assert "0.png: 40 x 36 px, at least 64 x 64" in refused(
        DataError, "--data", pictures, "--out", out, "--patch", 32
    )
    assert "held-out pictures are training data too" in refused(
        DataError, "--data", pictures, "--val", pictures, "--out", out
    )
    (pictures / "val").mkdir()
    shutil.copy(pictures / "0.png", pictures / "val")
    assert "1 held-out pictures are training data too" in refused(
        DataError, "--data", pictures, "--val", pictures / "val", "--out", out
    )
    shutil.rmtree(pictures / "val")
    (pictures / "bad.png").write_bytes(io.BytesIO(b"not a picture").read())
    assert "1 of 4 pictures cannot be used" in refused(DataError, "--data", pictures, "--out", out)
    assert not (out / "last.pt").exists()


def test_arbitrary_scale_starts_from_an_encoder_and_resumes(
    pictures: Path, shard: Path, tmp_path: Path
) -> None:
    classic("--data", pictures, "--out", tmp_path / "x2", "--iterations", 1, "--batch", 1, "--patch", 8)
    start = tmp_path / "x2" / "ema.safetensors"
    sizes = ("--model", "esc-light", "--batch", 2, "--patch", 8, "--set", "queries=20", "--scale", 2)
    common = ("arbitrary", "--data", pictures, "--out", tmp_path / "lte", *sizes)
    first = CliRunner().invoke(app, [*map(str, common), "--from", str(start), "--iterations", "2"])
    assert first.exit_code == 0, first.output
    network = weights.load(tmp_path / "lte" / "ema.safetensors")
    assert isinstance(network, EncoderLTE)
    card = weights.card(tmp_path / "lte" / "ema.safetensors")
    assert card is not None
    assert (card["recipe"], card["scale"], card["started_from"]) == (
        "arbitrary",
        [1.0, 4.0],
        "ema.safetensors",
    )
    began = weights.starting_weights(start, network.config)
    before = {name.removeprefix("encoder."): value for name, value in began.items()}
    after = network.encoder.state_dict()
    assert not {name for name in after if not name.startswith("upsampler")} - set(before)
    moved = [(after[name] - before[name]).abs().max() for name in after]
    assert 0 < max(moved) < 0.01  # two steps away from where it began
    more = ("--resume", "--iterations", 3, "--val", shard, "--val-minutes", 60)
    assert CliRunner().invoke(app, [*map(str, common), *map(str, more)]).exit_code == 0
    assert (tmp_path / "lte" / "validation" / "000003.png").exists()


def test_more_points_than_a_crop_has(pictures: Path, tmp_path: Path) -> None:
    arguments = ["arbitrary", "--data", str(pictures), "--out", str(tmp_path / "b"), "--patch", "8"]
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, UsageError) and "queries=2304: must be from 1 to the 64 pixels" in str(error)
