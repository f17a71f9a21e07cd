"""Loading: golden files, containers, dialects, our own format, bundled names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from esc_sr import families, weights
from esc_sr.engines import equip
from esc_sr.errors import WeightsError
from esc_sr.families.contract import Network
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.esc.presets import PRESETS
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.weights import bundle, opening
from weights_files import GOLDEN, Golden, golden

TINY: dict[str, Any] = {"dim": 16, "pdim": 8, "n_blocks": 2, "n_convattn": 2, "window": 8, "heads": 2}
REAL = {**TINY, "ffn_norm": True, "skip": "conv"}


def run(model: ESC | EncoderLTE, sample: Golden) -> Tensor:
    tensors = sample.tensors
    with torch.no_grad():
        if isinstance(model, EncoderLTE):
            return model.query(tensors["input"], tensors["coord"], tensors["cell"])
        output: Tensor = model(tensors["input"])
        return output


def assert_golden(model: Network, sample: Golden) -> None:
    assert isinstance(model, ESC | EncoderLTE)
    assert not model.training
    assert (run(model, sample) - sample.tensors["output"]).abs().max() <= 2e-5


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_checkpoint_gives_the_published_output_and_names_back(name: str, tmp_path: Path) -> None:
    sample = golden(name)
    lte = sample.config if name.startswith("lte") else None
    content = {"model": {**lte, "sd": sample.state}} if lte else {"params_ema": sample.state}
    torch.save(content, tmp_path / "published.pth")
    model = weights.load(tmp_path / "published.pth")
    assert_golden(model, sample)
    back = official(model)
    assert back.keys() == sample.state.keys()
    assert all(torch.equal(back[key], value) for key, value in sample.state.items())
    assert all(back[key].dtype == value.dtype for key, value in sample.state.items())


def official(model: Network) -> dict[str, Tensor]:
    return families.family_of(model.config).official(model.config, model.state_dict())


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def wrong(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: torch.zeros_like(value) for key, value in state.items()}


CONTAINERS: dict[str, Any] = {
    "bare": lambda s: s,
    "ema first": lambda s: {"params": wrong(s), "params_ema": s},
    "hyphen": lambda s: {"params": wrong(s), "params-ema": s},
    "params": lambda s: {"params": s, "params_ema": {}, "iter": 7},
    "lightning": lambda s: {"epoch": 3, "state_dict": prefixed("model.", s)},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}}},
    "net": lambda s: {"net": s},
    "net_g": lambda s: {"net_g": prefixed("module.", s)},
    "model": lambda s: {"model": s, "optimizer": {"name": "adam"}},
    "parallel and compiled": lambda s: {"params": prefixed("module._orig_mod.", s)},
    "counters": lambda s: prefixed(
        "module.", {**s, "step": torch.tensor(3), "proj.total_ops": torch.zeros(1)}
    ),
    "parameters": lambda s: {"params_ema": {k: torch.nn.Parameter(v) for k, v in s.items()}},
}


@pytest.mark.parametrize("how", CONTAINERS)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_containers(how: str, legacy: bool, tmp_path: Path) -> None:
    sample = golden("esc_tiny_x2")
    path = tmp_path / "weights.pt"
    torch.save(CONTAINERS[how](sample.state), path, _use_new_zipfile_serialization=not legacy)
    assert_golden(weights.load(path), sample)


@pytest.mark.parametrize("metadata", [None, {"metadata": '{"scale": 2}'}], ids=["bare", "traiNNer-redux"])
def test_foreign_safetensors_whatever_its_suffix(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    sample = golden("esc_tiny_x2")
    path = tmp_path / "renamed.pth"
    safetensors.torch.save_file(sample.state, path, metadata)
    assert_golden(weights.load(path), sample)
    assert weights.card(path) is None


def test_training_checkpoint_gives_its_averaged_weights(tmp_path: Path) -> None:
    sample = golden("esc_tiny_x2")
    torch.save({"params_ema": sample.state}, tmp_path / "a.pth")
    ours = weights.load(tmp_path / "a.pth").state_dict()
    torch.save(
        {"model": wrong(ours), "ema": ours, "optimizer": {"state": {}}, "elapsed": 1.0}, tmp_path / "last.pt"
    )
    assert_golden(weights.load(tmp_path / "last.pt"), sample)


def test_our_names_without_our_header(tmp_path: Path) -> None:
    model = ESC(ESCConfig(**REAL, scale=4, upsampler="realesrgan"))
    safetensors.torch.save_file(model.state_dict(), tmp_path / "stripped.safetensors")
    assert weights.load(tmp_path / "stripped.safetensors").config == model.config


@pytest.mark.parametrize("version", [2, 3], ids=["authors", "traiNNer-redux"])
@pytest.mark.parametrize(
    "config, method",
    [
        (ESCConfig(**REAL, scale=2, unshuffle=2, upsampler="nearest+conv"), 3),
        (ESCConfig(**REAL, scale=2, upsampler="nearest+conv"), 3),
        (ESCConfig(**REAL, scale=1, upsampler="pixelshuffledirect"), 0),
        (ESCConfig(**REAL, scale=3, upsampler="pixelshuffle", upsampler_width=64), 2),
        (ESCConfig(**REAL, scale=4, upsampler="dysample"), 4),
        (ESCConfig(**REAL, scale=2, unshuffle=2, upsampler="dysampledirect"), 4),
    ],
    ids=lambda value: f"{value.upsampler}-x{value.scale}" if isinstance(value, ESCConfig) else None,
)
def test_real_m_with_every_upsampler(version: int, config: ESCConfig, method: int, tmp_path: Path) -> None:
    model = ESC(config).eval()
    state = official(model)
    meta = state["to_img.MetaUpsample"]
    assert meta[:3].tolist() == [2, max(method, 1), config.scale * config.unshuffle]
    state["to_img.MetaUpsample"] = torch.tensor([version, method, *meta[2:].tolist()], dtype=torch.uint8)
    torch.save(state, tmp_path / "real.pth")
    loaded = weights.load(tmp_path / "real.pth")
    assert loaded.config == config
    lr = torch.rand(1, 3, 12, 10)
    with torch.no_grad():
        assert torch.equal(loaded(lr), model(lr))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_neosr_default_network_with_dysample(scale: int, tmp_path: Path) -> None:
    model = ESC(ESCConfig(**REAL, scale=scale, upsampler="dysampledirect")).eval()
    state = official(model)
    assert "to_img.init_pos" in state and "to_img.MetaUpsample" not in state
    torch.save({"params": state}, tmp_path / "neosr.pth")
    assert weights.load(tmp_path / "neosr.pth").config == model.config


@pytest.mark.parametrize(
    "config",
    [
        ESCConfig(**TINY, scale=3, expansion=1.3),
        ESCConfig(**TINY, first_expansion=1.5, ffn_norm=True, decomposed=True, skip="bicubic"),
        ESCConfig(**REAL, scale=3, upsampler="dysampledirect"),
        LTEConfig(ESCConfig(**TINY), hidden=32, mlp=(24, 16), trained_scale=3.0),
    ],
    ids=["esc", "fp", "dysample", "lte"],
)
def test_our_format_keeps_network_and_card(config: ESCConfig | LTEConfig, tmp_path: Path) -> None:
    model = EncoderLTE(config) if isinstance(config, LTEConfig) else ESC(config)
    card = {"data": {"tiles": 3}, "iterations": 10, "held_out": None}
    weights.save(model, tmp_path / "ours.safetensors", card)
    loaded = weights.load(tmp_path / "ours.safetensors")
    assert loaded.config == config
    assert weights.card(tmp_path / "ours.safetensors") == card
    state = loaded.state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, lambda network: equip(network, "torch")])
def test_a_wrapped_network_is_written_as_itself(
    wrap: Callable[[Network], torch.nn.Module], tmp_path: Path
) -> None:
    model = ESC(ESCConfig(**TINY))
    weights.save(wrap(model), tmp_path / "ours.safetensors")
    loaded = weights.load(tmp_path / "ours.safetensors")
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())


def test_what_has_no_network_of_ours_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not written, since Linear has no weights of a family here"):
        weights.save(torch.nn.Linear(2, 2), tmp_path / "ours.safetensors")
    assert not list(tmp_path.iterdir())


def test_float16_storage_is_loaded_in_the_precision_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ESC(ESCConfig(**REAL, scale=3, upsampler="dysampledirect")).eval()
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    weights.save(model, full)
    weights.save(model, half, dtype=torch.float16)
    assert half.stat().st_size < 0.6 * full.stat().st_size
    assert next(model.parameters()).dtype == torch.float32
    loaded = weights.load(half)
    for name, value in model.named_parameters():
        assert torch.equal(loaded.state_dict()[name], value.half().float())
    kept = "upsampler.0.init_pos"
    assert torch.equal(loaded.state_dict()[kept], model.state_dict()[kept])
    assert next(weights.load(half, dtype=torch.float64).parameters()).dtype == torch.float64


def test_a_digest_is_of_the_numbers_as_they_are() -> None:
    network = ESC(ESCConfig(**TINY))
    found = opening.digest(network)
    assert opening.digest(ESC(network.config)) != found == opening.digest(network)
    assert opening.digest(network.bfloat16()) not in (found, opening.digest(network.float()))


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    weights.save(ESC(ESCConfig(**TINY)), tmp_path / "a.safetensors")
    before = torch.get_rng_state()
    weights.load(tmp_path / "a.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of bundled weights: tiny-x2, tiny-x3 and any."""
    monkeypatch.setattr(bundle, "FOLDER", tmp_path)
    for scale in (2, 3):
        card = {"scale": scale}
        weights.save(ESC(ESCConfig(**TINY, scale=scale)), tmp_path / f"tiny-x{scale}.safetensors", card)
    weights.save(EncoderLTE(LTEConfig(ESCConfig(**TINY), 16, (16,))), tmp_path / "any.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    "name, scale, found", [("tiny", None, 2), ("tiny", 3, 3), ("tiny-x3", None, 3), ("tiny-x3", 3, 3)]
)
def test_bundled_names(shelf: Path, name: str, scale: int | None, found: int) -> None:
    config = weights.load(name, scale=scale).config
    assert isinstance(config, ESCConfig) and config.scale == found


def test_bundled_listing_and_arbitrary_scale(shelf: Path) -> None:
    assert [(name, card) for name, _, card in weights.bundled()] == [
        ("any", None),
        ("tiny-x2", {"scale": 2}),
        ("tiny-x3", {"scale": 3}),
    ]
    assert isinstance(weights.load("any", scale=7), EncoderLTE)


@pytest.mark.parametrize(
    "name, scale, message",
    [
        ("huge", None, "huge: neither a file nor bundled; bundled are any, tiny-x2, tiny-x3"),
        ("tiny", 5, "tiny at x5: neither"),
        ("tiny-x3", 2, "tiny-x3: is ESC of 16 channels, 2 blocks x3, not x2"),
    ],
)
def test_names_that_are_not_there(shelf: Path, name: str, scale: int | None, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        weights.load(name, scale=scale)


def test_full_size_network_loads_in_well_under_a_second(tmp_path: Path) -> None:
    model = ESC(PRESETS["esc"][2])
    weights.save(model, tmp_path / "esc.safetensors")
    assert weights.load(tmp_path / "esc.safetensors").config == PRESETS["esc"][2]
