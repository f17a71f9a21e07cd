"""Published networks, number for number, with every attention backend."""

import shutil

import pytest
import torch

from esc_sr import families
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.lte import EncoderLTE, LTEConfig
from weights_files import GOLDEN, Golden, golden

ONE_OF_EACH = (
    "esc_tiny_x2",
    "esc_tiny_x4_ln",
    "esc_fp_tiny_x2",
    "esc_real_tiny_x4",
    "esc_realm_tiny_x2_nearest_conv",
    "lte_esc_tiny_s3.7",
)


def config_of(sample: Golden) -> ESCConfig:
    """Translate the words of the published constructor."""
    words, real = sample.config, "Real" in sample.arch
    scale, decomposed = words["upscaling_factor"], sample.arch == "ESCFP"
    upsampler = {"ESCReal": "realesrgan", "ESCRealM": words.get("upsampler")}.get(sample.arch)
    return ESCConfig(
        scale=scale,
        dim=words["dim"],
        pdim=words["pdim"],
        kernel=words["kernel_size"],
        n_blocks=words["n_blocks"],
        n_convattn=words["conv_blocks"],
        window=words["window_size"],
        heads=words["num_heads"],
        expansion=words["exp_ratio"],
        first_expansion=1.5 if decomposed else 2.0,
        ffn_norm=real or decomposed or words.get("use_ln", False),
        decomposed=decomposed,
        skip="conv" if real else "bicubic" if decomposed else "nearest",
        upsampler=upsampler or "pixelshuffledirect",
        unshuffle=4 // scale if sample.arch == "ESCRealM" and scale < 3 else 1,
    )


def network_of(name: str) -> ESC | EncoderLTE:
    sample = golden(name)
    if name.startswith("lte"):
        words = sample.config["args"]
        encoder = golden("esc_tiny_x2")
        sizes = LTEConfig(
            config_of(encoder), words["hidden_dim"], tuple(words["imnet_spec"]["args"]["hidden_list"])
        )
        model: ESC | EncoderLTE = EncoderLTE(sizes)
    else:
        model = ESC(config_of(sample))
    found = families.family_of(model.config).detect(sample.state)
    assert found
    model.load_state_dict({ours: sample.state[name] for name, ours in found.names.items()})
    return model.eval()


def difference(name: str, backend: str) -> float:
    tensors, model = golden(name).tensors, network_of(name)
    with torch.no_grad():
        model.attention = backend
        if isinstance(model, EncoderLTE):
            output = model.query(tensors["input"], tensors["coord"], tensors["cell"])
        else:
            output = model(tensors["input"])
    return float((output - tensors["output"]).abs().max())


@pytest.mark.parametrize("backend", ["naive", "sdpa"])
@pytest.mark.parametrize("name", GOLDEN)
def test_published_output(name: str, backend: str) -> None:
    assert difference(name, backend) <= 2e-5


@pytest.mark.skipif(shutil.which("c++") is None, reason="flex needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_published_output_with_flex(name: str) -> None:
    assert difference(name, "flex") <= 2e-5


@pytest.mark.parametrize("name", ["lte_esc_tiny_s2.0", "lte_esc_tiny_s3.7"])
def test_public_lte_takes_and_gives_0_to_1(name: str) -> None:
    sample, model = golden(name), network_of(name)
    assert isinstance(model, EncoderLTE)
    height, width = sample.config["target_hw"]
    with torch.no_grad():
        sr = model(sample.tensors["input"] * 0.5 + 0.5, (height, width))
    expected = sample.tensors["output"].transpose(1, 2).reshape(1, 3, height, width) * 0.5 + 0.5
    assert (sr - expected).abs().max() <= 2e-5
