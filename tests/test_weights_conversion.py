"""Conversion to other names and other scales, and the commands around it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch.testing import assert_close
from typer.testing import CliRunner, Result

from esc_sr import native, weights
from esc_sr.cli.main import app
from esc_sr.errors import UsageError, WeightsError
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.esc.family import authors_class
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.weights import bundle
from esc_sr.weights.conversion import resize_subpixels
from weights_files import GOLDEN, golden

TINY: dict[str, Any] = {"dim": 16, "pdim": 8, "n_blocks": 2, "n_convattn": 2, "window": 8, "heads": 2}


@pytest.mark.parametrize("name", GOLDEN)
def test_there_and_back_without_loss(name: str, tmp_path: Path) -> None:
    sample = golden(name)
    state = {k: v.half() if v.is_floating_point() and "bias" in k else v for k, v in sample.state.items()}
    content = {"model": {**sample.config, "sd": state}} if name.startswith("lte") else {"params_ema": state}
    published, native, back = (tmp_path / file for file in ("a.pth", "b.safetensors", "c.pth"))
    torch.save(content, published)
    assert weights.convert(published, native) == weights.convert(native, back, "official")
    written = torch.load(back, weights_only=True)
    if name.startswith("lte"):
        model = {key: sample.config[key] for key in ("name", "args")}
        assert {key: written["model"][key] for key in model} == model
        found = written["model"]["sd"]
    else:
        assert written.keys() == {"params", "params_ema"}
        found = written["params"]
        assert found.keys() == written["params_ema"].keys()
    assert found.keys() == state.keys()
    for key, value in state.items():
        assert found[key].dtype == value.dtype and torch.equal(found[key], value)

    bare = tmp_path / "d.safetensors"
    weights.convert(native, bare, "official")
    assert safetensors.torch.load_file(bare).keys() == state.keys()


@pytest.mark.parametrize(
    "scale, mix",
    [
        (3, [[1, 0], [0.5, 0.5], [0, 1]]),
        (4, [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]),
    ],
)
def test_last_convolution_goes_to_another_scale_bilinearly(scale: int, mix: list[list[float]]) -> None:
    weight, bias = torch.randn(12, 5, 3, 3), torch.randn(12)
    m = torch.tensor(mix)
    expected = torch.einsum("yi,xj,cijk->cyxk", m, m, weight.view(3, 2, 2, 45)).reshape(-1, 5, 3, 3)
    assert torch.allclose(resize_subpixels(weight, scale), expected, atol=1e-6)
    expected = torch.einsum("yi,xj,cij->cyx", m, m, bias.view(3, 2, 2)).flatten()
    assert torch.allclose(resize_subpixels(bias, scale), expected, atol=1e-6)
    assert resize_subpixels(bias.half(), scale).dtype == torch.float16
    assert torch.equal(resize_subpixels(weight, 2), weight)


def test_starting_weights(tmp_path: Path) -> None:
    config = ESCConfig(**TINY)
    model, path = ESC(config), tmp_path / "x2.safetensors"
    weights.save(model, path, {"iterations": 10}, torch.float16)
    x3 = ESC(replace(config, scale=3))
    x3.load_state_dict(weights.starting_weights(path, x3.config))
    for name, value in model.named_parameters():
        if not name.startswith("upsampler"):
            assert torch.equal(x3.state_dict()[name], value.half().float())
    same = weights.starting_weights(str(path), config)
    assert torch.equal(same["upsampler.0.bias"], model.state_dict()["upsampler.0.bias"].half().float())
    other = replace(config, scale=3, n_convattn=4, window=16)
    with pytest.raises(
        WeightsError, match="of another network than .*: n_convattn 2 and not 4, window 8 and not 16"
    ):
        weights.starting_weights(path, other)


@pytest.mark.parametrize("decomposed", [False, True])
def test_a_deeper_network_starts_as_the_one_it_comes_from(tmp_path: Path, decomposed: bool) -> None:
    config = ESCConfig(**TINY, decomposed=decomposed)
    model, path = ESC(config), tmp_path / "shallow.safetensors"
    weights.save(model, path)
    deeper = ESC(replace(config, n_blocks=config.n_blocks + 2))
    deeper.load_state_dict(deeper.state_dict() | weights.starting_weights(path, deeper.config))
    lr = torch.rand(1, 3, 9, 11)
    assert torch.equal(deeper(lr), model(lr))
    with pytest.raises(WeightsError, match="n_blocks 2 and not 1"):
        weights.starting_weights(path, replace(config, n_blocks=1))


def test_a_deeper_lte_starts_as_the_one_it_comes_from(tmp_path: Path) -> None:
    esc, path = ESCConfig(**TINY), tmp_path / "shallow.safetensors"
    config = LTEConfig(esc, hidden=8, mlp=(8,))
    model = EncoderLTE(config)
    weights.save(model, path)
    deeper = EncoderLTE(config.at_depth(4))
    deeper.load_state_dict(deeper.state_dict() | weights.starting_weights(path, deeper.config))
    lr = torch.rand(1, 3, 9, 11)
    assert torch.equal(deeper(lr, (20, 13)), model(lr, (20, 13)))
    other = replace(config, hidden=16, encoder=replace(esc, window=16))
    with pytest.raises(WeightsError, match=r": hidden 8 and not 16, window 8 and not 16$"):
        weights.starting_weights(path, other)


@pytest.mark.parametrize("decomposed", [False, True])
def test_an_encoder_goes_from_esc_to_lte_and_back(tmp_path: Path, decomposed: bool) -> None:
    config = ESCConfig(**TINY, scale=3, decomposed=decomposed)
    model, path = ESC(config), tmp_path / "esc.safetensors"
    weights.save(model, path)
    lte = EncoderLTE(LTEConfig(replace(config, scale=2, n_blocks=3), hidden=8, mlp=(8,)))
    start = weights.starting_weights(path, lte.config)
    assert all(name.startswith("encoder.") for name in start)
    lte.load_state_dict(lte.state_dict() | start)
    lr = torch.rand(1, 3, 9, 11)
    shallow = lte.encoder.get_submodule("head")(2 * lr - 1), model.head(lr)
    assert_close(*(f[:, :, 1:-1, 1:-1] for f in shallow))
    weights.save(lte, path)
    back = ESC(replace(config, scale=4, n_blocks=3))
    start = weights.starting_weights(path, back.config)
    back.load_state_dict(back.state_dict() | start)
    assert_close(back.features(lr), model.features(lr))
    assert not any(name.startswith(("upsampler.", "decoder.")) for name in start)


def test_only_pixelshuffledirect_goes_to_another_scale(tmp_path: Path) -> None:
    config = ESCConfig(**TINY, scale=4, ffn_norm=True, skip="conv", upsampler="realesrgan")
    weights.save(ESC(config), tmp_path / "real.safetensors")
    with pytest.raises(WeightsError, match="only a network that ends in one convolution and a pixel shuffle"):
        weights.convert(tmp_path / "real.safetensors", tmp_path / "x2.safetensors", scale=2)
    torch.save({"model": {"sd": golden("lte_esc_tiny_s3.7").state}}, tmp_path / "lte.pth")
    with pytest.raises(WeightsError, match=r"is ESC\+LTE of 16 channels, 2 blocks; only a network that"):
        weights.convert(tmp_path / "lte.pth", tmp_path / "x2.safetensors", scale=2)
    with pytest.raises(WeightsError, match=r"is of another network than esc x2: dim 16 and not 64"):
        weights.starting_weights(tmp_path / "lte.pth", ESCConfig())


REAL = {**TINY, "ffn_norm": True, "skip": "conv"}


@pytest.mark.parametrize(
    "config, name",
    [
        (ESCConfig(**TINY, scale=3), "ESC"),
        (ESCConfig(**TINY, first_expansion=1.5, ffn_norm=True, decomposed=True, skip="bicubic"), "ESCFP"),
        (ESCConfig(**REAL, scale=4, upsampler="realesrgan"), "ESCReal"),
        (ESCConfig(**REAL, scale=2, unshuffle=2, upsampler="nearest+conv"), "ESCRealM"),
        (ESCConfig(**TINY, skip="bicubic"), None),
        (ESCConfig(**TINY, upsampler="dysample"), None),
        (ESCConfig(**TINY, first_expansion=1.5), None),
        (ESCConfig(**REAL, scale=3, first_expansion=1.5, decomposed=True), None),
        (ESCConfig(**{**REAL, "ffn_norm": False}, scale=4, upsampler="realesrgan"), None),
        (ESCConfig(**REAL, scale=3, unshuffle=2, upsampler="nearest+conv"), None),
    ],
)
def test_authors_names_only_for_the_authors_networks(
    config: ESCConfig, name: str | None, tmp_path: Path
) -> None:
    assert authors_class(config) == name
    model, native = ESC(config), tmp_path / "native.safetensors"
    weights.save(model, native)
    if name is None:
        with pytest.raises(WeightsError, match="the authors' code has no .* keep it native"):
            weights.convert(native, tmp_path / "theirs.pth", "official")
    else:
        weights.convert(native, tmp_path / "theirs.safetensors", "official")
        assert len(safetensors.torch.load_file(tmp_path / "theirs.safetensors")) >= len(model.state_dict())


@pytest.fixture
def published(tmp_path: Path) -> Path:
    torch.save({"params_ema": golden("esc_tiny_x2").state}, tmp_path / "published.pth")
    return tmp_path / "published.pth"


def test_what_convert_will_not_do(published: Path) -> None:
    out = published.with_name("out.safetensors")
    with pytest.raises(UsageError, match="native weights are written as .safetensors"):
        weights.convert(published, published.with_name("out.pth"))
    out.write_bytes(b"precious")
    with pytest.raises(UsageError, match="out.safetensors: exists"):
        weights.convert(published, out)
    assert out.read_bytes() == b"precious"
    with pytest.raises(UsageError, match="never the input"):
        weights.convert(published, published, "official", overwrite=True)
    with pytest.raises(WeightsError, match="gone.pth: neither a file nor bundled"):
        weights.convert(published.with_name("gone.pth"), out, overwrite=True)
    weights.convert(published, out, overwrite=True)
    assert isinstance(weights.load(out), ESC)
    assert sorted(path.name for path in published.parent.iterdir()) == ["out.safetensors", "published.pth"]


def esc_sr(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_info_and_convert_commands(published: Path) -> None:
    out = published.with_name("x3.safetensors")
    told = esc_sr("convert", published, out, "--scale", 3)
    assert told.exit_code == 0 and "ESC of 16 channels, 2 blocks x3, native" in told.stdout
    facts = json.loads(esc_sr("info", out, "--json").stdout)
    assert facts["scale"] == 3 and facts["names"] == "esc-sr" and facts["sizes"]["window"] == 8
    assert facts["card"] == {"started_from": "published.pth", "resized_from_scale": 2, "iterations": 0}

    facts = json.loads(esc_sr("info", published, "--json").stdout)
    assert facts["names"] == "authors" and facts["inside"] == "params_ema" and facts["card"] is None
    assert facts["parameters"] == sum(value.numel() for value in golden("esc_tiny_x2").state.values())
    shown = esc_sr("info", published).stdout
    assert "ESC of 16 channels, 2 blocks x2" in shown and "window: 8" in shown and "card" not in shown

    failed = esc_sr("convert", published, out)
    assert failed.exit_code == 2
    assert failed.stderr.count("\n") == 1 and "exists" in failed.stderr


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Weights of one size, the first with a card."""
    for name in ("a", "b"):
        torch.manual_seed(ord(name))
        network = ESC(ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2))
        facts = {"iterations": 7, "benchmarks": {"Set5": 1}, "note": "good"} if name == "a" else None
        weights.save(network, tmp_path / f"{name}.safetensors", facts)
    return tmp_path / "a.safetensors", tmp_path / "b.safetensors"


def test_the_network_between_two(two: tuple[Path, Path]) -> None:
    out = two[0].with_name("out.safetensors")
    told = esc_sr("mix", *two, out, "--share", 0.75)
    assert told.exit_code == 0 and "75% of" in told.stdout
    one, other, mixed = (weights.load(path).state_dict() for path in (*two, out))
    for name, value in mixed.items():
        torch.testing.assert_close(value, 0.75 * one[name] + 0.25 * other[name])
    assert weights.card(out) == {"iterations": 7, "mixed": {"share": 0.75, "with": "b.safetensors"}}
    assert esc_sr("mix", two[1], two[0], out, "--share", 0, "--overwrite").exit_code == 0
    assert all(torch.equal(value, one[name]) for name, value in weights.load(out).state_dict().items())
    assert weights.card(out) == {"mixed": {"share": 0, "with": "a.safetensors"}}


def test_what_mix_will_not_do(two: tuple[Path, Path], published: Path) -> None:
    before, out = [path.read_bytes() for path in two], two[0].with_name("out.safetensors")
    for arguments, words in (
        ((*two, out, "--share", 1.5), "from 0 to 1"),
        ((*two, out, "--share", "nan"), "from 0 to 1"),
        ((*two, out.with_suffix(".pth")), "give such a name"),
        ((*two, two[0], "--overwrite"), "never the input"),
        ((*two, two[1], "--overwrite"), "never the input"),
        ((two[0], published, out), "same sizes"),
        ((two[0], "gone.pth", out), "neither a file nor bundled"),
    ):
        failed = esc_sr("mix", *arguments)
        assert failed.exit_code == 2 and words in failed.stderr and failed.stderr.count("\n") == 1, words
    assert not out.exists() and [path.read_bytes() for path in two] == before


def test_info_tells_about_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = json.loads(esc_sr("info", "--system", "--json").stdout)
    assert facts["torch"] == torch.__version__ and facts["threads"] == torch.get_num_threads()
    assert facts["native"] == native.describe() and "cpu" in facts["devices"]
    monkeypatch.setenv("ESC_SR_NATIVE", "off")
    assert "off, by ESC_SR_NATIVE" in esc_sr("info", "--system").stdout
    for arguments in (("info",), ("info", "a.pth", "--system")):
        failed = esc_sr(*arguments)
        assert failed.exit_code == 2 and "either FILE or --system" in failed.stderr


def test_models_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "FOLDER", tmp_path)
    weights.save(ESC(ESCConfig(**TINY)), tmp_path / "tiny-x2.safetensors", {"iterations": 12, "data": ["a"]})
    (model,) = json.loads(esc_sr("models", "--json").stdout)
    assert model["name"] == "tiny-x2" and model["card"] == {"iterations": 12, "data": ["a"]}
    assert len(model["sha256"]) == 64 and model["bytes"] == (tmp_path / "tiny-x2.safetensors").stat().st_size
    assert esc_sr("info", "tiny").exit_code == 0
    assert weights.starting_weights("tiny", ESCConfig(**TINY, scale=3))["upsampler.0.bias"].shape == (27,)
    assert "tiny-x2" in esc_sr("models").stdout
    assert re.search(r"iterations +12\b", esc_sr("models", "tiny").stdout)


@pytest.mark.parametrize("to", ["native", "official"])
def test_tensors_that_lie_otherwise_or_in_one_place_are_converted(tmp_path: Path, to: str) -> None:
    torch.manual_seed(0)
    state = ESC(ESCConfig(**TINY)).state_dict()
    state["tail.weight"] = state["tail.weight"].contiguous(memory_format=torch.channels_last)
    norms = [name for name in state if name.endswith("norm_attn.weight") or name.endswith("norm_in.weight")]
    for name in norms:
        state[name] = state[norms[0]]  # one storage
    assert len(norms) > 1 and not state["tail.weight"].is_contiguous()
    weights.convert(golden_like(state, tmp_path), tmp_path / "out.safetensors", to)  # type: ignore[arg-type]
    back = weights.load(tmp_path / "out.safetensors").state_dict()
    assert all(torch.equal(back[name], value) for name, value in state.items())


def golden_like(state: dict[str, torch.Tensor], folder: Path) -> Path:
    """A pickle of our own names with the tensors as they lie."""
    torch.save(state, folder / "state.pth")
    return folder / "state.pth"
