"""The paper's values, and `--set key=value` on top of them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from esc_sr.cli.train import app
from esc_sr.errors import UsageError
from esc_sr.train.recipes import Arbitrary, Classic, RealGAN, RealMSE, Recipe, override, to_toml


def test_classic_is_the_papers() -> None:
    recipe = Classic()
    assert (recipe.iterations, recipe.lr, recipe.betas, recipe.weight_decay) == (
        500_000,
        5e-4,
        (0.9, 0.999),
        0,
    )
    assert recipe.loss == "l1"
    assert (recipe.batch, recipe.patch, recipe.ema, recipe.seed) == (64, 64, 0.999, 0)
    assert (recipe.warmup, recipe.milestones) == (20_000, (250_000, 400_000, 450_000, 475_000, 490_000))


def test_values_are_read_by_the_type_of_their_field() -> None:
    recipe = override(
        Classic(), ["lr=1e-4", "betas=0.9,0.9", "milestones=[1, 2]", "batch=8", "weight_decay=1"]
    )
    assert (recipe.lr, recipe.betas, recipe.milestones, recipe.batch) == (1e-4, (0.9, 0.9), (1, 2), 8)
    assert isinstance(recipe.weight_decay, float)
    assert override(Classic(), ["milestones=7"]).milestones == (7,)
    assert override(Classic(), ["milestones=()"]).milestones == ()
    assert override(Classic(), ["loss=mse"]).loss == "mse"
    assert override(Classic(), []) == Classic()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning_rate=1e-4", "one of loss, iterations, warmup"),
        ("name=other", "one of loss, iterations"),
        ("lr", "write key=value"),
        ("lr=fast", "must be a number"),
        ("lr=True", "must be a number"),
        ("lr=", "must be a number"),
        ("batch=8.0", "must be a whole number"),
        ("batch='8'", "must be a whole number"),
        ("betas=0.9", "2 numbers needed"),
        ("betas=0.9,no", "2 numbers|a number"),
        ("milestones=1,2.5", "must be a whole number"),
        ("milestones=20,10", "rising order"),
        ("loss=l2", "one of l1, mse"),
        ("batch=0", "at least 1"),
        ("patch=-3", "at least 1"),
        ("lr=-1", "above 0"),
        ("lr=1e999", "above 0"),
        ("ema=1", "below 1"),
        ("gamma=0", "above 0"),
        ("warmup=500001", "iterations"),
        ("accumulate=7", "divisor of the batch of 64"),
        ("lr=" + "(" * 500, "must be a number"),
    ],
)
def test_unknown_keys_and_wrong_values_are_one_line_errors(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        override(Classic(), [setting])
    assert "\n" not in str(caught.value)


def test_real_world_stages_are_the_papers() -> None:
    stages = (RealMSE(), RealGAN())
    assert {(stage.iterations, stage.batch, stage.patch, stage.loss) for stage in stages} == {
        (400_000, 48, 64, "l1")
    }
    assert RealGAN().weights == (1, 1, 0.1)
    assert (RealGAN().lr, RealGAN().betas, RealGAN().warmup) == (1e-4, (0.9, 0.99), 0)
    assert 4 * RealMSE().context == 400 and RealMSE().pool == 180


@pytest.mark.parametrize("recipe", [Classic(), Arbitrary(), RealMSE(), RealGAN()], ids=lambda r: r.name)
def test_a_recipe_written_as_toml_is_read_again(tmp_path: Path, recipe: Recipe) -> None:
    settings = ["betas=0.5,0.75", "batch=6", "clip=0.5", "loss=mse", "lr=3e-7"]
    changed = override(recipe, settings)
    shown = CliRunner().invoke(
        app, [recipe.name, "--print-config", *(part for setting in settings for part in ("--set", setting))]
    )
    assert shown.stdout == to_toml(changed)
    path = tmp_path / "recipe.toml"
    path.write_text(shown.stdout)
    assert override(recipe, [], path) == changed
    assert override(recipe, ["batch=8"], path).batch == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate = 1", "has rate, which is none of loss, iterations"),
        ("batch = 8.0", "batch = 8.0: must be a whole number"),
        ("lr = true", "must be a number"),
        ("lr = '1e-4'", "must be a number"),
        ("loss = 1", "must be a text"),
        ("betas = [0.9]", "2 numbers needed"),
        ("batch = 0", "at least 1"),
        ("batch =", "cannot be read as TOML"),
        ("name = 'arbitrary'", "of another recipe than classic"),
    ],
)
def test_files_are_held_to_the_same_rules(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        override(Classic(), [], path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read as TOML \(No such file"):
        override(Classic(), [], tmp_path / "none.toml")
