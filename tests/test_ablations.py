"""The networks of Table 3: told from their files, trained by name, exported; their numbers are tested beside
those of the others, in bands, by kernels and with gradients (`test_network.VARIANTS`)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from typer.testing import CliRunner

from esc_sr import export, families, weights
from esc_sr.cli.main import app
from esc_sr.errors import WeightsError
from esc_sr.families.esc.presets import ABLATIONS
from test_network import VARIANTS, make, picture

OWN = ("only-attn", "only-convattn", "own-lk-no-dk", "own-lk")


@pytest.mark.parametrize("name", ABLATIONS)
@pytest.mark.parametrize("scale", [2, 3])
def test_tensors_tell_which_it_is(name: str, scale: int) -> None:
    config = families.preset(name, scale)
    found = families.family_of(config).detect(families.blank(config).state_dict())
    assert found is not None
    assert found.config == config
    assert families.describe(config) == f"{name} x{scale}"


@pytest.mark.parametrize("name", OWN)
@torch.no_grad()
def test_a_file_gives_the_network_back_with_and_without_its_header(name: str, tmp_path: Path) -> None:
    net, x = make(VARIANTS[name]), picture(19, 9)
    weights.save(net, tmp_path / "headed.safetensors")
    safetensors.torch.save_file(net.state_dict(), tmp_path / "bare.safetensors")
    for path in tmp_path.iterdir():
        loaded = weights.load(path)
        assert loaded.config == net.config
        assert torch.equal(loaded(x), net(x))


@pytest.mark.parametrize("name", OWN)
def test_a_file_that_lacks_a_tensor_is_refused(name: str, tmp_path: Path) -> None:
    state = make(VARIANTS[name]).state_dict()
    path = tmp_path / "lacking.safetensors"
    for lost in ("bias_table", "estimator.2.bias", "large_kernel.weight", "more_attns.0.norm.weight"):
        some = [which for which in state if which.endswith(lost)][:1]
        if some:
            safetensors.torch.save_file({w: t for w, t in state.items() if w not in some}, path)
            with pytest.raises(WeightsError, match="recognised as .* tensors are missing") as caught:
                weights.load(path)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_authors_code_has_half_of_them(name: str) -> None:
    config = families.preset(name, 2)
    family, state = families.family_of(config), families.blank(config).state_dict()
    if name in ("esc-lk9", "esc-lk17", "esc-ws16", "esc-ws24"):
        found = family.detect(family.official(config, state))
        assert found is not None and found.config == config
    else:
        with pytest.raises(ValueError, match="the authors' code has no esc-"):
            family.official(config, state)


@pytest.mark.parametrize("name", ABLATIONS)
def test_training_by_name(name: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    (tmp_path / "hr").mkdir()
    Image.fromarray(pixels).save(tmp_path / "hr" / "0.png")
    options = ("--blocks", 1, "--batch", 1, "--patch", 8, "--iterations", 1, "--device", "cpu")
    places = ("--data", tmp_path / "hr", "--out", tmp_path / "out")
    words = ["train", "classic", "--model", name, *map(str, (*options, *places))]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    found = weights.load(tmp_path / "out" / "ema.safetensors").config
    assert found == families.preset(name, 2).at_depth(1)


@pytest.mark.parametrize(
    "changes", [{"n_attn": 2, "own_kernels": True, "dynamic": False}, {"n_attn": 0, "window": 1, "heads": 1}]
)
def test_graphs(changes: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    config = replace(VARIANTS["esc"], dim=8, pdim=4, kernel=5, n_blocks=1, n_convattn=1, **changes)
    ((_, difference),) = export.export(make(config), tmp_path / "net.onnx", "onnx")
    assert 0 <= difference <= 1e-4


def test_table_3_lists_the_names() -> None:
    result = CliRunner().invoke(app, ["benchmark", "complexity", "--table", "3", "--output-size", "64x48"])
    assert result.exit_code == 0, result.output
    assert all(f"{name} (" in result.stdout for name in ABLATIONS)
    assert "1209.500" in result.stdout
