"""A teacher's pictures as targets: computed once and kept, or in every step; and what is refused."""

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from esc_sr import Upscaler, weights
from esc_sr.cli.train import app
from esc_sr.data.degrade import sharpen
from esc_sr.data.pictures import Source, find_pictures, no_progress
from esc_sr.data.sources import Held, hold, measure
from esc_sr.errors import DataError, EscError, UsageError, WeightsError
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.train import teacher as module
from esc_sr.train.recipes import Arbitrary, Classic, RealMSE, Recipe
from esc_sr.train.teacher import Teacher
from pretend_ray import Ray

CPU = torch.device("cpu")
TINY = ESCConfig(dim=16, pdim=8, kernel=5, n_blocks=1, n_convattn=1, window=8, heads=2)


def save(path: Path, scale: int = 2, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    weights.save(ESC(replace(TINY, scale=scale)), path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save(tmp_path / "teacher.safetensors")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        small.resize((41, 36), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def pairs(pictures: Path) -> list[tuple[Source, Source]]:
    """LR and HR of x2, where LR is not the reduced HR, to see which is which."""
    hr = measure(find_pictures(pictures), 8)
    low = [Image.fromarray(255 - source.read()).resize((20, 18)) for source in hr]
    folder = pictures.with_name("lr")
    folder.mkdir(exist_ok=True)
    for number, picture in enumerate(low):
        picture.save(folder / f"{number}.png")
    lr = measure(find_pictures(folder), 8)
    return list(zip(hold(lr, 2**20), hold(hr, 2**20), strict=True))


def teach(file: Path, recipe: Recipe | None = None, scale: int = 2) -> Teacher:
    return (recipe or Classic()).teacher(str(file), scale, CPU)


def train(*arguments: object) -> Result:
    small = ("--batch", 2, "--patch", 8, "--device", "cpu", "--log-every", 1)
    return CliRunner().invoke(app, [*map(str, (*arguments, *small))])


def test_a_cluster_makes_the_same_files(
    file: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def pretended(cluster: str) -> Iterator[Ray]:
        assert cluster == "ray"
        yield Ray(1, 1)

    monkeypatch.setattr(module, "connected", pretended)
    both, told = pairs(pictures), list[int]()
    here = teach(file).targets(both, 2, tmp_path / "here", no_progress)
    folder = tmp_path / "there"
    there = teach(file).targets(both, 2, folder, lambda done, total: told.append(done), cluster="ray")
    assert told == [1, 2, 3]
    assert [low for low, _ in there] == [low for low, _ in both]
    for (_, one), (_, other) in zip(here, there, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.read(), other.read())

    def full(picture: NDArray[np.uint8], path: Path) -> None:
        raise DataError("the disk is full")

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(DataError, match="the disk is full"):
        teach(file).targets(both, 2, tmp_path / "other", no_progress, cluster="ray")


@pytest.mark.parametrize("recipe", ["classic", "real-mse"])
def test_a_cluster_without_pictures_to_make_is_refused(recipe: str, pictures: Path, tmp_path: Path) -> None:
    where = "--data", pictures, "--out", tmp_path / "run", "--minutes", 1
    said = refused(UsageError, recipe, *where, "--teacher-cluster", "ray")
    assert "--teacher-cluster ray: makes pictures of a --teacher for the recipe classic alone" in said


def refused(kind: type[EscError], *arguments: object) -> str:
    result = train(*arguments)
    assert isinstance(result.exception, kind), result.output
    message = str(result.exception)
    assert "\n" not in message
    return message


def test_targets_are_what_upscale_makes_of_lr(file: Path, pictures: Path, tmp_path: Path) -> None:
    given = pairs(pictures)
    taught = teach(file).targets(given, 2, tmp_path / "cache", no_progress)
    upscaler = Upscaler(file)
    for (lr, hr), (same, target) in zip(given, taught, strict=True):
        assert same is lr and target.name == hr.name
        expected = upscaler.upscale(lr.read())
        assert target.size == expected.shape[:2] == (36, 40)
        assert np.array_equal(target.read(), expected)
        assert np.array_equal(target.crop(3, 4, 8, 9), expected[3:11, 4:13])
    sharing = replace(Classic(), teacher_share=0.5)
    half = teach(file, sharing).targets(given, 2, tmp_path / "cache", no_progress)
    for (lr, hr), (_, target) in zip(given, half, strict=True):
        mean = (upscaler.upscale(lr.read()).astype(float) + hr.read()[:36, :40]) / 2
        assert np.abs(target.read() - mean).max() <= 0.5


def test_what_is_in_the_cache_is_used_and_what_is_damaged_made_again(
    file: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, cache = pairs(pictures), tmp_path / "cache"
    made: list[Path] = []
    real = module._write

    def write(picture: NDArray[np.uint8], path: Path) -> None:
        made.append(path)
        real(picture, path)

    monkeypatch.setattr(module, "_write", write)
    teach(file).targets(given, 2, cache, no_progress)
    assert len(made) == 3
    teach(file).targets(given, 2, cache, no_progress, share=(1, 2))
    assert len(made) == 3
    one = sorted(cache.rglob("*.npy"))[0]
    whole = one.read_bytes()
    for damage in (b"", whole[:40], whole[:-7]):
        one.write_bytes(damage)
        teach(file).targets(given, 2, cache, no_progress)
        assert one.read_bytes() == whole
    assert len(made) == 6
    teach(save(tmp_path / "other.safetensors", seed=1)).targets(given, 2, cache, no_progress)
    assert len(made) == 9  # another teacher's pictures lie elsewhere


def test_a_full_disk_is_one_line_and_leaves_whole_files(
    file: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[int] = []
    real = np.save

    def save_some(target: Any, picture: Any) -> None:
        saves.append(1)
        if len(saves) > 1:
            target.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(target, picture)

    monkeypatch.setattr(np, "save", save_some)
    out, cache = tmp_path / "out", tmp_path / "cache"
    run = ("classic", "--data", pictures, "--out", out, "--iterations", 1, "--teacher", file)
    message = refused(DataError, *run, "--teacher-cache", cache)
    assert "No space left on device" in message and "--teacher-cache" in message
    (kept,) = (path for path in cache.rglob("*") if path.is_file())
    assert np.load(kept).shape == (36, 40, 3)
    assert not (out / "last.pt").exists()


def test_a_cache_that_cannot_be_made_is_one_line(file: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    run = ("classic", "--data", pictures, "--out", tmp_path / "out", "--iterations", 1, "--teacher", file)
    assert "cannot be made" in refused(DataError, *run, "--teacher-cache", tmp_path / "taken")


def test_answer_mixes_its_picture_with_hr(file: Path, tmp_path: Path) -> None:
    lr, hr = torch.rand(2, 3, 9, 10), torch.rand(2, 3, 18, 20)
    network = weights.load(file)
    with torch.no_grad():
        sr = network(lr).clamp(0, 1)
    recipe = RealMSE()
    assert (teach(file, recipe).answer(lr, hr) - sr).abs().max() < 0.6 / 255
    half = teach(file, replace(recipe, teacher_share=0.25)).answer(lr, hr)
    assert (half - (0.25 * sr + 0.75 * hr)).abs().max() < 0.6 / 255
    larger = teach(save(tmp_path / "x4.safetensors", 4), recipe)
    assert larger.answer(lr, hr).shape == hr.shape


def test_every_recipe_learns_from_a_teacher(pictures: Path, tmp_path: Path) -> None:
    """A network that is its own teacher has little to learn: what crops and rounding change."""
    start = weights.find("esc-light-x2")
    for number in range(3):
        rng = np.random.default_rng(number)
        noise = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        noise.resize((32, 32), Image.Resampling.BICUBIC).save(pictures / f"{number}.png")
    run = ("--data", pictures, "--iterations", 1, "--set", "patch=16")
    classic = ("classic", *run, "--from", start)
    settings = ("--set", "context=16", "--set", "pool=2")
    real = ("real-mse", *run, "--model", "esc-light", "--scale", 2, "--from", start, *settings)
    for recipe in (classic, real):
        plain, taught = tmp_path / f"{recipe[0]}-plain", tmp_path / recipe[0]
        assert train(*recipe, "--out", plain).exit_code == 0
        result = train(*recipe, "--out", taught, "--teacher", "esc-light")
        assert result.exit_code == 0, result.exception
        assert loss_of(taught) < 0.9 * loss_of(plain)
        card = weights.card(taught / "ema.safetensors") or {}
        assert card["teacher"]["network"] == "esc-light x2" and card["teacher"]["share"] == 1
        assert len(card["teacher"]["sha256"]) == 64
    assert len(list((tmp_path / "classic" / "teacher").rglob("*.npy"))) == 3

    torch.manual_seed(0)
    lte = tmp_path / "lte.safetensors"
    weights.save(EncoderLTE(LTEConfig(TINY)), lte)
    arguments = ("--blocks", 1, "--scale", 2, "--set", "scales=1,2", "--set", "queries=9", "--teacher", lte)
    result = train("arbitrary", *run, "--out", tmp_path / "lte", *arguments)
    assert result.exit_code == 0, result.exception


def loss_of(out: Path) -> float:
    records = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return next(float(record["loss"]) for record in records if record["event"] == "train")


def test_colours_come_from_the_teacher_at_any_point(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights.save(EncoderLTE(LTEConfig(TINY)), tmp_path / "lte.safetensors")
    teacher = teach(tmp_path / "lte.safetensors", replace(Arbitrary(), teacher_share=0.5))
    lr, coord = torch.rand(1, 3, 8, 8) * 2 - 1, torch.rand(1, 5, 2)
    cell, colours = torch.full((1, 5, 2), 0.1), torch.rand(1, 5, 3)
    (*given, mixed) = next(teacher.colours(iter([(lr, coord, cell, colours)])))
    with torch.no_grad():
        network = weights.load(tmp_path / "lte.safetensors")
        assert isinstance(network, EncoderLTE)
        own = network.query(lr, coord, cell).clamp(-1, 1)
    assert torch.allclose(mixed, (own + colours) / 2, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(given, (lr, coord, cell), strict=True))


def test_real_targets_are_the_teachers_not_sharpened(file: Path) -> None:
    hr = torch.rand(1, 3, 18, 20)
    none = teach(file, replace(RealMSE(), teacher_share=0.0)).answer(torch.rand(1, 3, 9, 10), sharpen(hr))
    assert (none - sharpen(hr)).abs().max() < 0.6 / 255


def test_what_cannot_teach_is_one_line(file: Path, pictures: Path, tmp_path: Path) -> None:
    run = ("classic", "--data", pictures, "--out", tmp_path / "out", "--iterations", 1, "--teacher")
    assert "neither a file nor bundled" in refused(WeightsError, *run, "nobody")
    assert "give one of x2" in refused(UsageError, *run, save(tmp_path / "x3.safetensors", 3))
    assert "--teacher" in refused(UsageError, *run, save(tmp_path / "x4.safetensors", 4))
    (tmp_path / "text.pth").write_text("no network")
    refused(WeightsError, *run, tmp_path / "text.pth")
    anyscale = ("arbitrary", "--blocks", 1, *run[1:])
    assert "learns from a network with LTE" in refused(UsageError, *anyscale, file, "--set", "queries=9")
    assert not (tmp_path / "out" / "last.pt").exists()


def test_a_run_keeps_its_teacher(file: Path, pictures: Path, tmp_path: Path) -> None:
    run = ("classic", "--data", pictures, "--out", tmp_path / "out", "--iterations", 1)
    assert train(*run, "--teacher", file).exit_code == 0
    assert "another --teacher" in refused(UsageError, *run, "--resume")
    other = save(tmp_path / "other.safetensors", seed=1)
    assert "another --teacher" in refused(UsageError, *run, "--resume", "--teacher", other)
    assert train(*run, "--resume", "--teacher", file).exit_code == 0


def test_held_pictures_keep_their_place(pictures: Path) -> None:
    assert all(isinstance(side, Held) for pair in pairs(pictures) for side in pair)
