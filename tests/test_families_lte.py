"""LTE on encoders of other papers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from esc_sr import families, weights
from esc_sr.cli.main import app
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.image import Picture, write_image
from pictures import noise
from published_families import PRESETS

PARAMETERS = {"rdn": 22_467_779, "atd-light": 1_188_891, "hit-srf": 1_348_307}
"""Of published networks, those that no result depends on among them."""

UNTOLD: dict[str, dict[str, Any]] = {
    "atd-light": {"category": 128},
    "hit-srf": {"windows": (4, 8, 16), "base": 8},
}
"""Sizes that the authors' files do not tell, as they are taken then."""

EACH = pytest.mark.parametrize("name", PARAMETERS)


def small(name: str) -> EncoderLTE:
    torch.manual_seed(0)
    encoder = replace(families.preset(name, 2), **PRESETS[name].small | UNTOLD.get(name, {}))
    return EncoderLTE(LTEConfig(encoder, hidden=16, mlp=(16,))).eval()


@EACH
def test_parameters(name: str) -> None:
    network = families.blank(families.preset(f"{name.removesuffix('-light')}-lte", 2))
    assert network.config == LTEConfig(families.preset(name, 2))
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]


@EACH
def test_files_of_its_authors(name: str, tmp_path: Path) -> None:
    network = small(name)
    weights.save(network, tmp_path / "ours.safetensors")
    weights.convert(tmp_path / "ours.safetensors", tmp_path / "lte.pth", to="official")
    again = weights.load(tmp_path / "lte.pth")
    lr = torch.rand(1, 3, 9, 14)
    with torch.inference_mode():
        sr = again(lr, (20, 35))
        torch.testing.assert_close(sr, network(lr, (20, 35)))
    assert sr.shape == (1, 3, 20, 35) and again.config == network.config


@EACH
def test_an_encoder_is_made_of_a_network_and_back(name: str) -> None:
    network, lte = PRESETS[name].network(name), families.of_kind("esc-lte")
    config = LTEConfig(network.config)
    _, state = lte.adapt(network.config, config, network.state_dict())
    started = EncoderLTE(config)
    assert not started.load_state_dict(state, strict=False).unexpected_keys
    _, again = lte.adapt(config, network.config, started.state_dict())
    assert again.keys() < network.state_dict().keys()
    for key, value in again.items():
        torch.testing.assert_close(value, network.state_dict()[key])
    lr, first = torch.rand(1, 3, 9, 9), families.family_of(network.config).first
    mean = torch.tensor(families.family_of(network.config).mean).view(3, 1, 1)
    seen = network.get_submodule(first)(lr - mean), started.encoder.get_submodule(first)(2 * lr - 1)
    torch.testing.assert_close(seen[0][:, :, 1:-1, 1:-1], seen[1][:, :, 1:-1, 1:-1])


@EACH
def test_it_is_trained(name: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_image(Picture(noise(120, 120, 3)), tmp_path / "data" / "a.png")
    weights.save(PRESETS[name].network(name), tmp_path / "before.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        config = replace(families.preset(name, 2), **PRESETS[name].small)
        patch.setattr(families.family_of(config), "presets", {name: {2: config}})
        run: tuple[Any, ...] = ("train", "arbitrary", "--data", tmp_path / "data", "--out", tmp_path / "run")
        run += ("--model", name, "--scale", 2, "--batch", 2, "--patch", 16, "--set", "queries=64")
        run += ("--iterations", 1, "--device", "cpu", "--from", tmp_path / "before.safetensors")
        done = CliRunner().invoke(app, [str(part) for part in run])
    assert done.exit_code == 0, done.output
    assert weights.load(tmp_path / "run" / "ema.safetensors").config == LTEConfig(config)
