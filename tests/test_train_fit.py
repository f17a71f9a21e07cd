"""What is fitted to another scale or another encoder is the best there is, and nothing else changes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from typer.testing import CliRunner, Result

from esc_sr import families, weights
from esc_sr.cli.train import app
from esc_sr.errors import DataError, EscError, UsageError, WeightsError
from esc_sr.families.contract import Network
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.image import Picture, write_image
from esc_sr.train import fit
from peer_files import bsrn, srvgg
from published_families import PRESETS

TINY: dict[str, Any] = {"dim": 16, "pdim": 8, "n_blocks": 1, "n_convattn": 1, "window": 8, "heads": 2}
SHUFFLED: dict[str, Network] = {
    "esc": ESC(ESCConfig(**TINY)),
    "esc-fp": ESC(ESCConfig(**TINY, first_expansion=1.5, ffn_norm=True, decomposed=True, skip="bicubic")),
    "bsrn": bsrn(),
    "srvgg": srvgg(),
} | {name: one.network(name) for name, one in PRESETS.items()}
SHUFFLED = {
    name: network
    for name, network in SHUFFLED.items()
    if families.family_of(network.config).shuffled(network.config)
}


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "CROPS", 5)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Waves of every length with a little noise; one is too small for any window."""
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:110, :150] / 60
    for number in range(4):
        waves = np.stack([np.sin(2 ** (2 + 2 * x + colour / 3) * (y + number)) for colour in range(3)], -1)
        pixels = 128 + 90 * waves + rng.normal(0, 5, waves.shape)
        write_image(Picture(pixels.round().astype(np.uint8)), tmp_path / "pictures" / f"{number}.png")
    write_image(Picture(rng.integers(0, 255, (5, 5, 3), dtype=np.uint8)), tmp_path / "pictures" / "small.png")
    return tmp_path / "pictures"


def gradient(network: Network, data: Path) -> Tensor:
    """Of the mean squared error over the crops, by all weights of the last convolution."""
    config = network.config
    assert config.scale
    last = network.get_submodule(families.family_of(config).shuffled(config) or "").requires_grad_()
    error = torch.zeros(())
    for lr, hr in fit._crops([data], config.scale, network.multiple, lambda done, total: None):
        error = error + F.mse_loss(network(lr), hr, reduction="sum")
    found = torch.autograd.grad(error, list(last.parameters()))
    last.requires_grad_(False)
    return torch.cat([part.flatten() for part in found])


@pytest.mark.parametrize(("name", "scale"), [*((name, 3) for name in SHUFFLED), ("esc", 2), ("esc", 4)])
def test_last_convolution_cannot_be_better(name: str, scale: int, pictures: Path, tmp_path: Path) -> None:
    old, out = SHUFFLED[name], tmp_path / "out.safetensors"
    weights.save(old, tmp_path / "old.safetensors")
    fit.fit_scale(tmp_path / "old.safetensors", out, scale, [pictures])
    new = weights.load(out)
    assert new.config == replace(old.config, scale=scale)
    started = families.build(new.config)
    started.load_state_dict(weights.starting_weights(tmp_path / "old.safetensors", new.config))
    assert gradient(new, pictures).norm() < 1e-3 * gradient(started, pictures).norm()
    last = families.family_of(new.config).shuffled(new.config) or ""
    for key, value in old.state_dict().items():
        assert key.startswith(last) or torch.equal(value, new.state_dict()[key])
    card = weights.card(out)
    assert card and card["started_from"] == "old.safetensors" and card["fitted_from_scale"] == 2


def with_lte(seed: int) -> EncoderLTE:
    torch.manual_seed(seed)
    return EncoderLTE(LTEConfig(ESCConfig(**TINY), 16, (16,))).eval()


def test_another_encoder_makes_what_the_old_one_made(pictures: Path, tmp_path: Path) -> None:
    """An encoder whose features are those of the old one in another order is as good as that one."""
    old, moved = with_lte(0), with_lte(0)
    order = torch.randperm(16)
    features, twice = old.state_dict(), moved.state_dict()
    for name in ("weight", "bias"):
        features[f"encoder.tail.{name}"].zero_()
        twice[f"encoder.tail.{name}"].zero_()
        twice[f"encoder.head.{name}"].copy_(2 * twice[f"encoder.head.{name}"][order])
    for name, network in (("old", old), ("moved", moved)):
        weights.save(network, tmp_path / f"{name}.safetensors")
    out = tmp_path / "out.safetensors"
    fit.fit_encoder(tmp_path / "moved.safetensors", out, tmp_path / "old.safetensors", [pictures])
    new, lr = weights.load(out), torch.rand(1, 3, 24, 24)
    torch.testing.assert_close(new(lr, (55, 60)), old(lr, (55, 60)), atol=1e-3, rtol=0)
    assert not torch.allclose(moved(lr, (55, 60)), old(lr, (55, 60)), atol=1e-2)
    for name, value in new.state_dict().items():
        if not name.startswith(("decoder.coef", "decoder.freq")):
            assert torch.equal(value, (twice if name.startswith("encoder.") else features)[name])


def test_its_own_encoder_changes_nothing(pictures: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    weights.save(with_lte(1), path)
    fit.fit_encoder(path, out, path, [pictures])
    for name, value in weights.load(path).state_dict().items():
        assert torch.equal(value, weights.load(out).state_dict()[name])


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["fit", *map(str, arguments)])


def test_command(pictures: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "x2.safetensors", tmp_path / "x3.safetensors"
    weights.save(SHUFFLED["esc"], source)
    run = (source, out, "--data", pictures, "--scale", 3)
    found = command(*run)
    assert found.exit_code == 0, found.exception
    assert found.output.splitlines()[0] == "looking at crops: 5/5" and str(out) in found.output
    first = weights.load(out).state_dict()
    assert "--overwrite" in refused(UsageError, *run)
    assert command(*run, "--overwrite").exit_code == 0
    assert all(torch.equal(value, first[name]) for name, value in weights.load(out).state_dict().items())
    assert "never the input" in refused(UsageError, source, source, *run[2:], "--overwrite")


def refused(kind: type[EscError], *arguments: object) -> str:
    result = command(*arguments)
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def test_what_cannot_be_fitted_is_refused(pictures: Path, tmp_path: Path) -> None:
    source, out, small = tmp_path / "x2.safetensors", tmp_path / "out.safetensors", tmp_path / "small"
    weights.save(SHUFFLED["esc"], source)
    run = (source, out, "--data", pictures)
    assert "either --scale or --decoder" in refused(UsageError, *run)
    assert "either --scale or --decoder" in refused(UsageError, *run, "--scale", 3, "--decoder", source)
    assert "has no LTE" in refused(UsageError, *run, "--decoder", source)
    assert "1 to 8" in refused(WeightsError, *run, "--scale", 9)
    assert ".safetensors" in refused(UsageError, source, tmp_path / "out.pth", *run[2:], "--scale", 3)
    assert "is no folder" in refused(
        WeightsError, source, tmp_path / "no" / "out.safetensors", *run[2:], "--scale", 3
    )
    small.mkdir()
    (pictures / "small.png").rename(small / "small.png")
    assert "24 px" in refused(DataError, source, out, "--data", small, "--scale", 3)
    real = tmp_path / "real.safetensors"
    weights.save(ESC(ESCConfig(**TINY, scale=4, ffn_norm=True, skip="conv", upsampler="realesrgan")), real)
    assert "another scale" in refused(WeightsError, real, out, *run[2:], "--scale", 2)
    assert not out.exists()
