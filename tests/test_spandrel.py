"""Networks that spandrel knows, here; and ESC in spandrel: with the library itself."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import esc_sr
import esc_sr.spandrel
from esc_sr import families, weights
from esc_sr.cli.main import app
from esc_sr.data.pictures import Decoded
from esc_sr.errors import UsageError, WeightsError
from esc_sr.families import describe
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.image import Picture, write_image
from esc_sr.train.teacher import Teacher
from esc_sr.weights.others import SpandrelNetwork
from torchvision_stub import import_spandrel
from weights_files import golden

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

SMALL: dict[str, Any] = {"dim": 16, "pdim": 8, "n_blocks": 1, "n_convattn": 1, "window": 8, "heads": 2}


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    import_spandrel(monkeypatch)


@pytest.fixture
def safmn(tmp_path: Path) -> Path:
    """A file of SAFMN x4, which wants sides of multiples of 8."""
    from spandrel.architectures.SAFMN import SAFMN

    torch.manual_seed(0)
    network = SAFMN(dim=8, n_blocks=1, ffn_scale=2.0, upscaling_factor=4)
    torch.save({"params_ema": network.state_dict()}, tmp_path / "safmn.pth")
    return tmp_path / "safmn.pth"


def by_itself(file: Path) -> "ImageModelDescriptor[Any]":
    """What spandrel alone makes of a file."""
    from spandrel import ImageModelDescriptor, ModelLoader

    found = ModelLoader().load_from_file(file)
    assert isinstance(found, ImageModelDescriptor)
    return found


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.stdout + result.stderr


def test_a_network_that_spandrel_knows_gives_the_same(safmn: Path) -> None:
    network, alone = weights.load(safmn), by_itself(safmn)
    lr = torch.rand(2, 3, 13, 21)
    given = lr.clone()
    sr = network(lr)
    assert torch.equal(lr, given) and sr.shape == (2, 3, 52, 84) and not sr.is_inference()
    for one, wanted in zip(sr, lr, strict=True):
        assert torch.equal(one, alone(wanted[None])[0])
    assert network(torch.rand(1, 3, 1, 1)).shape == (1, 3, 4, 4)
    assert describe(network.config) == "SAFMN (8dim, 1nb) x4"


def test_it_is_told_upscales_and_is_measured(safmn: Path, tmp_path: Path) -> None:
    code, told = run("info", safmn)
    assert code == 0 and "SAFMN" in told and "spandrel" in told
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    (tmp_path / "Set5" / "HR").mkdir(parents=True)
    write_image(Picture(pixels), tmp_path / "Set5" / "HR" / "a.png")
    code, told = run("upscale", tmp_path / "Set5" / "HR" / "a.png", "-n", safmn, "-o", tmp_path / "b.png")
    assert code == 0, told
    assert (tmp_path / "b.png").exists()
    code, told = run("evaluate", "-n", safmn, "--data", tmp_path / "Set5", "-s", "4")
    assert code == 0 and "safmn" in told, told


def test_it_teaches(safmn: Path, tmp_path: Path) -> None:
    teacher = Teacher(str(safmn), 4, 1.0, torch.device("cpu"))
    assert teacher.network.startswith("SAFMN") and len(teacher.digest) == 64
    lr, hr = (np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (9, 36))
    pair = Decoded("lr", lr), Decoded("hr", hr)
    ((_, target),) = teacher.targets([pair], 4, tmp_path / "cache", lambda done, total: None)
    assert np.array_equal(target.read(), esc_sr.Upscaler(safmn, 4).upscale(lr))
    with pytest.raises(UsageError, match="is SAFMN"):
        Teacher(str(safmn), 2, 1.0, torch.device("cpu"))


def test_all_else_is_refused_in_a_line(safmn: Path, tmp_path: Path) -> None:
    code, told = run("export", "onnx", safmn, tmp_path / "a.onnx")
    assert code == 2 and "SAFMN (8dim, 1nb) x4 is of no family here" in told and told.count("\n") == 1
    with pytest.raises(UsageError, match="SAFMN"):
        weights.save(weights.load(safmn), tmp_path / "a.safetensors")
    assert len(list(tmp_path.iterdir())) == 1


def test_half_precision_is_what_the_network_is_made_for(safmn: Path) -> None:
    network = weights.load(safmn)
    assert isinstance(network, SpandrelNetwork)
    lr = torch.rand(1, 3, 8, 8)
    exact = network(lr)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = network(lr)
        network.described.supports_bfloat16 = False
        kept = network(lr)
    assert not torch.equal(lowered.float(), exact) and torch.equal(kept, exact)


def test_what_spandrel_does_not_know_or_cannot_load(safmn: Path, tmp_path: Path) -> None:
    state = torch.load(safmn)["params_ema"]
    torch.save({"some.weight": torch.ones(2)}, tmp_path / "a.pth")
    torch.save(state | {"to_feat.bias": torch.ones(5)}, tmp_path / "b.pth")
    torch.save(state | {"to_feat.bias": torch.full((8,), torch.nan)}, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match="spandrel does not know it either"):
        weights.load(tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"spandrel cannot load it \(Error"):
        weights.load(tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="damaged, not all is a finite number in to_feat.bias"):
        weights.load(tmp_path / "c.pth")


def test_without_spandrel_the_extra_is_named(safmn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(
        WeightsError, match=r'no network that is known here.*pip install "esc-sr\[spandrel\]"'
    ):
        weights.load(safmn)


@pytest.fixture
def registered() -> None:
    esc_sr.spandrel.install()
    assert esc_sr.spandrel.install() == []


@pytest.mark.parametrize("names", ["official", "ours"])
def test_spandrel_opens_esc(names: str, registered: None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights.save(ESC(ESCConfig(scale=3, **SMALL)), tmp_path / "ours.safetensors", dtype=torch.float16)
    network = weights.load(tmp_path / "ours.safetensors")
    file = tmp_path / "ours.safetensors"
    if names == "official":
        file = tmp_path / "official.pth"
        weights.convert(tmp_path / "ours.safetensors", file, "official")
    found = by_itself(file)
    assert (found.architecture.id, found.purpose, found.scale) == ("ESC", "SR", 3)
    assert (found.input_channels, found.output_channels, found.dtype) == (3, 3, torch.float32)
    assert found.size_requirements.none and found.tiling.name == "SUPPORTED"
    for sides in ((1, 1), (1, 9), (40, 33)):
        lr = torch.rand(1, 3, *sides)
        with torch.inference_mode():
            assert torch.equal(found(lr), network(lr).clamp(0, 1))


def test_published_names_and_presets_are_told(registered: None, tmp_path: Path) -> None:
    torch.save({"params_ema": golden("esc_tiny_x2").state}, tmp_path / "a.pth")
    assert by_itself(tmp_path / "a.pth").tags == ["16dim"]
    found = by_itself(weights.find("esc-light-x2"))
    assert found.tags == ["esc-light"] and found.scale == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precisions_of_esc(dtype: torch.dtype, registered: None) -> None:
    found = by_itself(weights.find("esc-light-x2"))
    lr = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    exact = found(lr)
    lowered = found.to(dtype)(lr.to(dtype))
    assert lowered.dtype == dtype
    assert (lowered.float() - exact).abs().max() < (0.02 if dtype == torch.float16 else 0.1)


def test_damaged_esc_says_what_is_wrong(registered: None, tmp_path: Path) -> None:
    state = golden("esc_tiny_x2").state
    del state["last.bias"]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="ESC.*tensors are missing"):
        by_itself(tmp_path / "a.pth")


def test_others_are_left_to_others(registered: None, safmn: Path) -> None:
    swinir = families.blank(families.preset("swinir-light", 2)).state_dict()
    for state in (dict(swinir), {"encoder.plk_filter": torch.ones(1)}, torch.load(safmn)["params_ema"]):
        assert not esc_sr.spandrel.architecture().detect(state)
    assert by_itself(safmn).architecture.id == "SAFMN"


def test_tiles_of_esc_are_near_the_whole(registered: None) -> None:
    found = by_itself(weights.find("esc-light-x2"))
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(96.0), indexing="ij")
    lr = (0.5 + 0.4 * torch.stack([(rows / 5).sin(), (columns / 3).cos(), ((rows + columns) / 7).sin()]))[
        None
    ]
    halves = found(lr[..., :64])[..., :96], found(lr[..., 32:])[..., 32:]
    assert (torch.cat(halves, 3) - found(lr)).abs().max() < 0.03
