"""A family that is defined here alone is told, loaded, planned, run, measured and trained like any other."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner, Result

import esc_sr
from esc_sr import families, weights
from esc_sr.benchmark import networks
from esc_sr.benchmark.complexity import complexity
from esc_sr.cli.main import app
from esc_sr.errors import DeviceError, UsageError
from esc_sr.evaluate import predict
from esc_sr.image import Picture, write_image
from esc_sr.machine.memory import parse_memory
from pictures import noise

DOCUMENT = Path(__file__).parents[1] / "docs" / "architecture.md"
TOY = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[0]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The family's one module, written to a folder, imported and put into the list."""
    path = tmp_path_factory.mktemp("toy") / "toy.py"
    path.write_text(TOY)
    spec = importlib.util.spec_from_file_location("toy", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "toy", module)
        spec.loader.exec_module(module)
        patch.setattr(families, "FAMILIES", [*families.FAMILIES, module.FAMILY])
        yield module


@pytest.fixture
def published(toy: ModuleType, tmp_path: Path) -> Path:
    """A checkpoint as its authors would have it."""
    torch.manual_seed(0)
    model = toy.Toy(toy.ToyConfig())
    theirs = toy.FAMILY.official_names(model.config, model.state_dict())
    torch.save(
        {"params_ema": {theirs[name]: value for name, value in model.state_dict().items()}},
        tmp_path / "toy.pth",
    )
    return tmp_path / "toy.pth"


def command(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_a_file_is_told_and_converted(published: Path) -> None:
    facts = json.loads(command("info", published, "--json").stdout)
    told = {key: facts[key] for key in ("network", "preset", "scale", "names", "sizes")}
    assert told == {
        "network": "Toy x2 of 16 channels",
        "preset": "toy",
        "scale": 2,
        "names": "authors",
        "sizes": {"scale": 2, "dim": 16},
    }
    native, back = published.with_name("native.safetensors"), published.with_name("back.safetensors")
    assert command("convert", published, native).exit_code == 0
    assert command("convert", native, back, "--to", "official").exit_code == 0
    theirs = torch.load(published, weights_only=True)["params_ema"]
    found = safetensors.torch.load_file(back)
    assert found.keys() == theirs.keys() and all(torch.equal(found[name], theirs[name]) for name in theirs)
    assert command("convert", native, published.with_name("x3.safetensors"), "--scale", 3).exit_code == 0


def test_a_damaged_file_is_refused_in_one_line(toy: ModuleType, published: Path) -> None:
    state = torch.load(published, weights_only=True)["params_ema"]
    del state["up.bias"]
    torch.save({"params": state}, published)
    failed = command("info", published)
    assert failed.exit_code and "recognised as Toy, but tensors are missing (1: " in failed.stderr


def test_it_enlarges_in_one_piece_and_in_tiles(published: Path) -> None:
    lr = noise(150, 100, 3)
    whole = esc_sr.upscale(lr, published)
    assert whole.shape == (300, 200, 3)
    with pytest.raises(DeviceError) as caught:
        esc_sr.upscale(lr, published, max_memory=1)
    least = parse_memory(str(caught.value).split(" or ")[1].split(" in the ")[0])
    told, notices = list[str](), list[str]()
    tight = esc_sr.Upscaler(published, max_memory=least + 2**18, report=told.append, notify=notices.append)
    tiled = tight.upscale(lr)
    assert "in blended tiles of " in told[0] and "approximately" in notices[0]
    assert 0 < np.abs(tiled.astype(int) - whole).mean() < 20
    write_image(Picture(lr), published.with_name("a.png"))
    done = command("upscale", published.with_name("a.png"), "-n", published, "--max-memory", least + 2**18)
    assert done.exit_code == 0 and published.with_name("a_2x.png").exists()


def test_it_is_counted_and_measured(published: Path) -> None:
    (row,) = complexity([("toy", 2)], (64, 64))
    pixels = 32 * 32
    conv = pixels * 9 * (3 * 16 + 16 * 16 + 16 * 12)
    assert row["parts"]["conv"] == conv and row["parts"]["pooling"] == 16 * pixels
    assert row["macs"] == conv + 16 * pixels + 7 * pixels
    assert {"toy", "toy-wide"} <= set(networks.published())
    chosen = ("-n", "toy-wide", "-s", 2, "--output-size", "64x64", "--json")
    counted = json.loads(command("benchmark", "complexity", *chosen).stdout)
    assert [row["model"] for row in counted["rows"]] == ["toy-wide"]
    network = weights.load(published)
    assert predict(network, noise(9, 7, 3), 2).shape == (18, 14, 3)


RECIPES: dict[str, tuple[Any, ...]] = {
    "classic": ("--scale", 3, "--set", "optimizer=muon"),
    "real-mse": ("--set", "context=40", "--set", "pool=2"),
    "arbitrary": ("--set", "queries=64"),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_is_trained(recipe: str, published: Path) -> None:
    data, out = published.parent / "data", published.parent / "run"
    data.mkdir()
    write_image(Picture(noise(120, 120, 3)), data / "a.png")
    run: tuple[Any, ...] = ("train", recipe, "--data", data, "--out", out, "--model", "toy", "--scale", 2)
    run += ("--batch", 2, "--patch", 16, "--device", "cpu", *RECIPES[recipe])
    begun = command(*run, "--iterations", 2, "--from", published)
    assert begun.exit_code == 0, begun.output
    resumed = command(*run, "--iterations", 3, "--resume")
    assert resumed.exit_code == 0, resumed.output
    network = weights.load(out / "ema.safetensors")
    scale = None if recipe == "arbitrary" else 3 if recipe == "classic" else 2
    assert network.config.scale == scale
    larger = esc_sr.upscale(noise(8, 9, 3), network, scale=scale or 2.5)
    assert larger.shape == ((20, 22, 3) if scale is None else (8 * scale, 9 * scale, 3))
    if recipe == "arbitrary":
        assert families.describe(network.config) == "Toy+LTE of 16 channels"


def test_what_it_has_not_is_refused(toy: ModuleType, published: Path) -> None:
    run = (
        "train",
        "classic",
        "--data",
        published.parent,
        "--out",
        published.parent / "run",
        "--model",
        "toy",
    )
    assert "leave it out" in command(*run, "--blocks", 1).stderr
    cost = toy.Toy.cost
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy.Toy, "cost", lambda *args, **named: None)
        assert esc_sr.upscale(noise(8, 9, 3), published).shape == (16, 18, 3)
        with pytest.raises(UsageError, match=r"toy\.pth does not tell what memory it takes"):
            esc_sr.upscale(noise(8, 9, 3), published, max_memory="1GiB")
    assert toy.Toy.cost is cost
