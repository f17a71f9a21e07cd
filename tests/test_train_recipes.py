"""The paper's values, and `--set key=value` on top of them."""

import pytest

from esc_sr.errors import UsageError
from esc_sr.train.recipes import classic, override


def test_classic_is_the_papers() -> None:
    recipe = classic()
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
        classic(), ["lr=1e-4", "betas=0.9,0.9", "milestones=[1, 2]", "batch=8", "weight_decay=1"]
    )
    assert (recipe.lr, recipe.betas, recipe.milestones, recipe.batch) == (1e-4, (0.9, 0.9), (1, 2), 8)
    assert isinstance(recipe.weight_decay, float)
    assert override(classic(), ["milestones=7"]).milestones == (7,)
    assert override(classic(), ["milestones=()"]).milestones == ()
    assert override(classic(), ["loss=mse"]).loss == "mse"
    assert override(classic(), []) == classic()


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
        override(classic(), [setting])
    assert "\n" not in str(caught.value)
