"""`--released`: what the released configuration does otherwise, from the command line to the crops."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from esc_sr.cli.train import app
from esc_sr.data.degrade import sharpen
from esc_sr.data.pictures import find_pictures
from esc_sr.errors import UsageError
from esc_sr.train.feed import open_crops, stream
from esc_sr.train.losses import Distance
from esc_sr.train.recipes import Arbitrary, Classic, RealGAN, RealMSE, Recipe, override, to_toml
from esc_sr.train.setup import Setup

DIFFERENCES: list[tuple[Recipe, dict[str, Any]]] = [
    (Classic(), {"betas": (0.9, 0.9), "per_epoch": 1, "bicubic": "pillow"}),
    (Arbitrary(), {"per_epoch": 20, "bicubic": "pillow"}),
    (
        RealMSE(),
        {
            "iterations": 1_000_000,
            "warmup": 0,
            "betas": (0.9, 0.9),
            "pool": 720,
            "draws": 4,
            "sharpen": "context",
            "per_epoch": 1,
        },
    ),
    (RealGAN(), {"pool": 720, "draws": 4, "per_epoch": 1}),
]


@pytest.mark.parametrize(("recipe", "changes"), DIFFERENCES, ids=lambda value: getattr(value, "name", ""))
def test_the_command_line_has_the_values(recipe: Recipe, changes: dict[str, Any], tmp_path: Path) -> None:
    plain = asdict(recipe)
    assert {key: value for key, value in asdict(recipe.released()).items() if plain[key] != value} == changes
    shown = CliRunner().invoke(app, [recipe.name, "--released", "--set", "batch=8", "--print-config"])
    assert shown.stdout == to_toml(override(recipe.released(), ["batch=8"]))
    (tmp_path / "released.toml").write_text(shown.stdout)
    assert override(recipe, [], tmp_path / "released.toml") == replace(recipe.released(), batch=8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--small", "--released"), "--small and --released exclude each other"),
        (("--anneal", "run", "--released"), "the recipe is that of the run"),
        (("--set", "bicubic=lanczos"), "one of matlab, pillow"),
        (("--set", "per_epoch=-1"), "0 or more"),
    ],
)
def test_what_does_not_go_together(words: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, ["classic", *words])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (60, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return Setup(2, roots=[find_pictures(tmp_path)], cache=10**6)


def test_lr_of_a_crop_is_that_of_pillow_and_every_picture_comes_once(setup: Setup) -> None:
    recipe = replace(Classic().released(), patch=8, batch=5)
    crops = open_crops(recipe, setup)
    lr, hr = next(stream(recipe, crops, setup, recipe.make_pool(), 0, workers=0))
    wholes = [np.asarray(Image.open(entry.path)) for entry in setup.roots[0]]
    owners = set()
    for low, high in zip((lr * 255).round().byte(), (hr * 255).round().byte(), strict=True):
        fits = 0
        for turns in range(4):
            for flip in (1, -1):
                crop = np.ascontiguousarray(np.rot90(high.permute(1, 2, 0).numpy()[:, ::flip], turns))
                shown = np.rot90(low.permute(1, 2, 0).numpy()[:, ::flip], turns)
                made = np.asarray(Image.fromarray(crop).resize((8, 8), Image.Resampling.BICUBIC))
                places = [n for n, whole in enumerate(wholes) if crop.tobytes() in _crops_of(whole)]
                owners |= set(places)
                fits += bool(places) and np.array_equal(shown, made)
        assert fits == 1
    assert owners == set(range(5))


def _crops_of(whole: np.ndarray) -> set[bytes]:
    """All crops of 16 x 16 px at even places."""
    return {whole[y : y + 16, x : x + 16].tobytes() for y in range(0, 45, 2) for x in range(0, 45, 2)}


def test_a_mix_and_a_teacher_are_refused(setup: Setup) -> None:
    recipe = replace(Classic().released(), patch=8)
    with pytest.raises(UsageError, match="--mix: per_epoch=1 takes all pictures alike"):
        open_crops(recipe, setup, [1.0])
    with pytest.raises(UsageError, match="bicubic=pillow makes LR of each crop"):
        recipe.pictures(replace(setup, teacher=nn.Identity()))  # type: ignore[arg-type]


def test_hr_is_sharpened_before_the_crop_and_once(setup: Setup) -> None:
    small: dict[str, Any] = {"patch": 8, "context": 24, "batch": 2, "pool": 1}
    plain, released = (
        replace(recipe, **small) for recipe in (RealMSE(), replace(RealMSE(), sharpen="context"))
    )
    found = []
    for recipe in (plain, released):
        crops = open_crops(recipe, setup)
        _, wanted = next(stream(recipe, crops, setup, recipe.make_pool(), 0, workers=0))
        objective = recipe.objective(setup)
        assert isinstance(objective, Distance) and objective.sharpened == (recipe is plain)
        found.append(wanted)
    own, sharpened = sharpen(found[0]), found[1]
    assert (sharpened - found[0]).abs().max() > 0.1
    assert 0.01 < (sharpened - own).abs().max()  # the crop's edges saw what was beside them
    with pytest.raises(UsageError, match="sharpen.*the discriminator sees HR as it is"):
        replace(RealGAN(), sharpen="context")


def test_pool_and_draws_are_of_all_processes_together(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RealMSE().released()
    assert [recipe.make_pool(processes).size for processes in (1, 4, 7)] == [720, 180, 103]
    given: list[int] = []
    monkeypatch.setattr(
        "esc_sr.train.recipes.real.degrade_batches", lambda *args, draws, **how: given.append(draws)
    )
    for share in ((0, 1), (1, 2), (3, 4), (7, 8)):
        recipe.batches(iter(()), replace(setup, share=share), recipe.make_pool(), 0)
    assert given == [4, 2, 1, 1]
    assert torch.is_tensor(recipe.make_pool().state_dict()["lr"])
