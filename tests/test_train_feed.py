"""What `esc-sr train` takes as data: mixes, LR files, pictures that stay in their files, and processes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from esc_sr import weights
from esc_sr.bicubic import downscale, resize
from esc_sr.cli.train import app
from esc_sr.data.degrade import sharpen
from esc_sr.data.pictures import find_pictures
from esc_sr.data.pool import PairPool
from esc_sr.errors import DataError, UsageError
from esc_sr.train.feed import cache_bytes, default_workers, open_crops, stream
from esc_sr.train.recipes import Arbitrary, Classic, RealMSE, Recipe, override
from esc_sr.train.setup import Setup

CPU = torch.device("cpu")


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    """Two folders of HR pictures, and x2 LR beside each."""
    rng = np.random.default_rng(0)
    for name, count in (("a", 1), ("b", 2)):
        for number in range(count):
            hr = rng.integers(0, 256, (37, 40, 3), dtype=np.uint8)
            for folder, pixels in ((f"{name}/HR", hr), (f"{name}/LR", 255 - downscale(hr, 2))):
                (tmp_path / folder).mkdir(exist_ok=True, parents=True)
                Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    return [tmp_path / "a" / "HR", tmp_path / "b" / "HR"]


def lr_of(roots: list[Path]) -> list[Path]:
    return [root.with_name("LR") for root in roots]


def setup(roots: list[Path], cache: int, lr: Sequence[Path] = ()) -> Setup:
    return Setup(2, roots=[find_pictures(root) for root in roots], lr=lr, cache=cache)


def crop(
    recipe: Recipe, roots: list[Path], lr: list[Path], cache: int, number: int
) -> tuple[torch.Tensor, ...]:
    return open_crops(recipe, setup(roots, cache, lr))[number]


def train(*arguments: object) -> Result:
    small = ("--batch", 2, "--patch", 8, "--device", "cpu", "--log-every", 1, "--iterations", 2)
    return CliRunner().invoke(app, ["classic", *map(str, (*small, *arguments))])


def test_where_pictures_are_and_who_reads_them_does_not_change_the_run(
    roots: list[Path], tmp_path: Path
) -> None:
    data = ("--data", roots[0], "--data", roots[1], "--mix", "2,1")
    ways = (("--cache", "1GiB"), ("--cache", 0, "--workers", 1))
    found = []
    for number, way in enumerate(ways):
        out = tmp_path / f"out{number}"
        result = train(*data, "--out", out, *way)
        assert result.exit_code == 0, result.exception
        found.append(weights.load(out / "ema.safetensors").state_dict())
        card = weights.card(out / "ema.safetensors") or {}
        assert (card["data"], card["mix"], card["lr"]) == ({"a/HR": 1, "b/HR": 2}, [2, 1], None)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize("cache", [0, 6000, 10**9])
def test_lr_files_are_taken_in_place_of_made_ones(roots: list[Path], cache: int) -> None:
    recipe = override(Classic(), ["patch=8"])
    for number in range(8):
        lr, hr = crop(recipe, roots, lr_of(roots), cache, number)
        made, same = crop(recipe, roots, [], cache, number)
        torch.testing.assert_close(hr, same, rtol=0, atol=0)
        torch.testing.assert_close(lr, 1 - made)


@pytest.mark.parametrize("recipe", [Arbitrary(), RealMSE()])
def test_other_recipes_do_not_depend_on_the_cache(roots: list[Path], recipe: Recipe) -> None:
    small = ["patch=8", "context=16"] if recipe.name == "real-mse" else ["patch=8", "queries=9"]
    recipe = override(recipe, small)
    for number in range(4):
        torch.testing.assert_close(
            crop(recipe, roots, [], 0, number), crop(recipe, roots, [], 10**9, number), rtol=0, atol=0
        )


@pytest.mark.parametrize("clean", [0.0, 1.0])
def test_a_recipe_decides_how_many_pictures_stay_clean(roots: list[Path], clean: float) -> None:
    recipe = override(RealMSE(), ["patch=16", "context=16", "batch=4", f"clean={clean}"])
    given = setup(roots, 10**9)
    lr, hr = next(stream(recipe, open_crops(recipe, given), given, PairPool(4), start=0, workers=0))
    difference = (lr - resize(sharpen(hr), (16, 16)).clamp(0, 1)).abs().amax((1, 2, 3))
    assert ((difference < 0.51 / 255) == bool(clean)).all()


def test_a_cache_is_an_amount_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_bytes("1MiB", 2) == 2**20
    assert cache_bytes("0", 1) == 0
    for free, half in ((2**29, 0), (2**31, 2**29), (2**33, 7 * 2**29)):
        monkeypatch.setattr("esc_sr.train.feed.free_memory", lambda device, free=free: free)
        assert (cache_bytes(None, 1), cache_bytes(None, 2)) == (half, half // 2)
    with pytest.raises(UsageError, match="no amount of memory"):
        cache_bytes("much", 1)


def test_processes_read_ahead_where_crops_are_decoded_or_training_is_elsewhere(roots: list[Path]) -> None:
    recipe = override(Classic(), ["patch=8"])
    held, files = (open_crops(recipe, setup(roots, cache)) for cache in (10**9, 0))
    assert default_workers(held, CPU) == 0
    assert default_workers(held, torch.device("cuda")) >= 1
    assert default_workers(files, CPU) >= 1


def test_data_that_does_not_fit_is_refused_before_the_first_step(roots: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    data = ("--data", roots[0], "--data", roots[1], "--out", out)
    lr = [argument for root in lr_of(roots) for argument in ("--lr", root)]
    cases: list[tuple[type[Exception], str, tuple[object, ...]]] = [
        (UsageError, "--mix 1,2,3: must be 2 numbers", ("--mix", "1,2,3")),
        (UsageError, "--mix 0,0: must be", ("--mix", "0,0")),
        (UsageError, "--mix 1;2: must be numbers", ("--mix", "1;2")),
        (UsageError, "--lr given 1 times for 2 --data", tuple(lr[:2])),
        (UsageError, "no amount of memory", ("--cache", "much")),
        (DataError, "1 of 1 pairs do not fit: 0.png is 40 x 37 px in HR and 20 x 18", (*lr, "--scale", 3)),
        (DataError, "without a partner", ("--lr", roots[1], "--lr", roots[0])),
    ]
    for kind, message, arguments in cases:
        error = train(*data, *arguments).exception
        assert isinstance(error, kind), error
        assert message in str(error) and "\n" not in str(error)
    arbitrary_lr = ["arbitrary", *map(str, data), *map(str, lr), "--patch", "8", "--set", "queries=9"]
    error = CliRunner().invoke(app, arbitrary_lr).exception
    assert isinstance(error, UsageError) and "the recipe arbitrary makes its own LR" in str(error)
    assert not (out / "last.pt").exists()
