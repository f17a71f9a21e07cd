"""What all networks of other papers promise: their numbers, their files, any picture, and each use."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from esc_sr import families, weights
from esc_sr.benchmark import measure
from esc_sr.benchmark.complexity import complexity
from esc_sr.benchmark.networks import OUTPUT
from esc_sr.cli.main import app
from esc_sr.errors import DeviceError, WeightsError
from esc_sr.families.contract import Network
from esc_sr.families.parts import bands
from esc_sr.image import Picture, write_image
from esc_sr.machine.memory import parse_memory
from esc_sr.upscaling.engine import Upscaler, upscale
from esc_sr.upscaling.plan import Workload, plan_memory
from esc_sr.weights.checkpoint import read
from pictures import noise
from pretend_gpu import GPU, pretended_gpu
from published_families import FILES, PRESETS, PUBLISHED, enlarged, loaded
from weights_files import golden

EACH = pytest.mark.parametrize("name", PRESETS)


@pytest.mark.parametrize(("file", "white"), FILES, ids=[file for file, _ in FILES])
def test_golden_tensors(file: str, white: float, tmp_path: Path) -> None:
    sample, network = loaded(file, tmp_path)
    expected = sample.tensors["output"]
    torch.testing.assert_close(enlarged(network, sample, white), expected, atol=1e-4 * white, rtol=0)
    config = network.config
    if read(tmp_path / f"{file}.pth").dialect == "authors":  # the authors' code loads what is written for it
        official = families.family_of(config).official(config, network.state_dict())
        assert {name: value.dtype for name, value in official.items()} == {
            name: value.dtype for name, value in sample.state.items()
        }
        learned = {name for name, _ in network.named_parameters()}
        assert all(torch.equal(official[name], sample.state[name]) for name in learned & official.keys())
    weights.save(network, tmp_path / "ours.safetensors")
    again = weights.load(tmp_path / "ours.safetensors")
    assert again.config == network.config
    assert torch.equal(enlarged(again, sample, white), enlarged(network, sample, white))


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("wrapper", ["params_ema", "state_dict", "model", "bare"])
def test_published_files_load_unchanged(name: str, wrapper: str, tmp_path: Path) -> None:
    state = golden(PUBLISHED[name].files[0]).state
    prefix = {"state_dict": "module.", "model": "model."}.get(wrapper, "")
    named = {prefix + key: value for key, value in state.items()}
    torch.save(named if wrapper == "bare" else {wrapper: named}, tmp_path / "a.pth")
    found = read(tmp_path / "a.pth")
    learned = {name for name, _ in families.blank(found.config).named_parameters()}
    assert learned <= found.state.keys() and (wrapper == "bare") is (found.place == "bare")
    del named[f"{prefix}{next(iter(state))}"]
    torch.save(named, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"recognised as .*, but tensors are missing \(1: "):
        read(tmp_path / "a.pth")


@EACH
def test_parameters_and_macs(name: str) -> None:
    case = PRESETS[name]
    rows = list(complexity([(name, scale) for scale in case.parameters], OUTPUT))
    assert {row["scale"]: row["parameters"] for row in rows} == case.parameters
    assert {row["scale"]: round(row["macs"] / 1e9, 2) for row in rows} == case.gmacs
    assert all(macs >= 0 for row in rows for macs in row["parts"].values())


@EACH
def test_any_size_goes_through(name: str) -> None:
    network = PRESETS[name].network(name)
    scale = min(PRESETS[name].parameters)
    for size in ((1, 1), (1, 20), (9, 2), (17, 33)):
        sr = network(torch.rand(1, 3, *size))
        assert sr.shape == (1, 3, scale * size[0], scale * size[1]) and sr.isfinite().all()
    sr.mean().backward()
    missing = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


@EACH
def test_several_pictures_are_each_by_itself(name: str) -> None:
    network, lr = PRESETS[name].network(name), torch.rand(3, 3, 18, 25)
    with torch.inference_mode():
        single = torch.cat([network(one) for one in lr.split(1)])
        torch.testing.assert_close(network(lr), single, atol=1e-5, rtol=0)


@EACH
def test_bands_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, lr = PRESETS[name].network(name), torch.rand(2, 3, 33, 40)
    with torch.inference_mode():
        whole = network(lr)
        monkeypatch.setattr(bands, "PIXELS", 1)
        torch.testing.assert_close(network(lr), whole, atol=1e-5, rtol=0)


def tight(network: Network, lr: torch.Tensor) -> int:
    """Memory in which a picture goes through in small tiles."""
    with pytest.raises(DeviceError) as caught:
        upscale(lr, network, max_memory=1)
    return parse_memory(str(caught.value).split(" or ")[1].split(" in the ")[0]) + 2**18


@EACH
def test_little_memory_makes_tiles(name: str) -> None:
    case = PRESETS[name]
    network, lr = case.network(name), torch.rand(1, 3, 24, 300).cumsum(-1) / 300
    told, notices = list[str](), list[str]()
    upscaler = Upscaler(
        network, max_memory=tight(network, lr), report=told.append, notify=notices.append, frame=0
    )
    difference = (upscaler.upscale(lr) - upscale(lr, network)).abs().mean()
    assert "tiles of " in told[0] and any("approximately" in said for said in notices) is not case.exact
    assert difference < (1e-5 if case.exact else 0.05)


@EACH
def test_a_large_picture_fits_into_6_gib(name: str) -> None:
    network = families.blank(families.preset(name, min(PRESETS[name].parameters)))
    work = Workload(torch.Size((1, 3, 1500, 2000)), 4 * 3 * 5 * 1500 * 2000, 4)
    plan = plan_memory(network, work, torch.device("cpu"), 6 * 2**30, 0)
    assert plan.need < 6 * 2**30


@EACH
def test_each_use(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = PRESETS[name]
    scale = min(case.parameters)
    config = replace(families.preset(name, scale), **case.small)
    monkeypatch.setattr(families.family_of(config), "presets", {name: {scale: config}})
    data, run, network = tmp_path / "data", tmp_path / "run", tmp_path / "run" / "ema.safetensors"
    data.mkdir()
    for stem in "ab":
        write_image(Picture(noise(96, 120, 3)), data / f"{stem}.png")
    train = ("train", "classic", "--data", data, "--scale", scale, "--batch", 2, "--patch", 16)
    command(*train, "--model", name, "--out", run, "--iterations", 2, "--device", "cpu")
    assert weights.load(network).config == config
    taught = ("--model", name, "--out", tmp_path / "taught", "--iterations", 1, "--device", "cpu")
    command(*train, *taught, "--teacher", network)
    command("upscale", data / "a.png", "-n", network, "-o", tmp_path / "sr.png")
    command("evaluate", "-n", network, "--data", data, "-s", scale)
    monkeypatch.setattr(measure, "_in_child", lambda case, device: measure.memory(case, str(device), 1))
    costs = command("benchmark", "latency", "-n", name, "-s", scale, "--input", "8x8", "--runs", 1)
    assert name in costs


def command(*args: object) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    assert done.exit_code == 0, done.output
    return done.stdout


@EACH
def test_on_a_pretended_gpu(name: str) -> None:
    network, lr = PRESETS[name].network(name), torch.rand(1, 3, 19, 22)
    with torch.no_grad():
        expected = network(lr)
        with pretended_gpu() as gpu:
            network, lr = network.to("cuda"), lr.to("cuda")
            loaded = gpu.sent
            found = network(lr)
            assert found.device == GPU and not gpu.waits and gpu.sent - loaded < 2000
            torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-4)
