"""Files of other families: told by names and shapes, of any container, refused in one line and unbuilt."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook
from typer.testing import CliRunner

from esc_sr import weights
from esc_sr.cli.main import app
from esc_sr.errors import WeightsError
from esc_sr.families import describe, variant
from esc_sr.families.bsrn import BSRNConfig
from esc_sr.families.contract import Network
from esc_sr.families.esc.presets import PRESETS
from esc_sr.families.srvgg import SRVGGConfig
from esc_sr.weights.checkpoint import read
from peer_files import TINY, bsrn, srvgg

State = dict[str, Tensor]


def same(model: Network, network: Network) -> None:
    assert type(model) is type(network) and model.config == network.config and not model.training
    state = network.state_dict()
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("network", TINY.values(), ids=TINY)
@pytest.mark.parametrize("wrapper", ["params", "params_ema", "bare", "safetensors", "prefixed"])
def test_containers(network: Network, wrapper: str, tmp_path: Path) -> None:
    path, state = tmp_path / "given.file", dict(network.state_dict())
    if wrapper == "safetensors":
        safetensors.torch.save_file(state, path)
    elif wrapper == "prefixed":
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    else:
        torch.save(state if wrapper == "bare" else {wrapper: state}, path)
    same(weights.load(path, scale=2), network)


@pytest.mark.parametrize(
    "network",
    [bsrn(4, 48, 5), bsrn(3, 64, 8), bsrn(1, 18, 1), srvgg(2, 64, 16), srvgg(1, 5, 0), srvgg(3, 48, 7)],
    ids=lambda network: describe(network.config),
)
def test_sizes_follow_from_the_file(network: Network, tmp_path: Path) -> None:
    torch.save({"params": network.state_dict()}, tmp_path / "given.pth")
    same(weights.load(tmp_path / "given.pth"), network)


def test_float16_is_computed_in_float32(tmp_path: Path) -> None:
    network = srvgg()
    safetensors.torch.save_file(
        {name: value.half() for name, value in network.state_dict().items()}, tmp_path / "half.safetensors"
    )
    model = weights.load(tmp_path / "half.safetensors")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert weights.load(tmp_path / "half.safetensors", dtype=torch.float16)(
        torch.rand(1, 3, 4, 4).half()
    ).shape


@pytest.mark.parametrize(("kind", "network"), TINY.items(), ids=TINY)
def test_our_own_files_and_back(kind: str, network: Network, tmp_path: Path) -> None:
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.pth"
    weights.save(network, ours, {"note": "made here"}, torch.float16)
    with safetensors.safe_open(ours, "pt") as file:
        assert file.metadata()["kind"] == kind
    assert weights.card(ours) == {"note": "made here"}
    assert weights.load(ours).config == network.config
    torch.save({"params": network.state_dict()}, tmp_path / "published.pth")
    weights.convert(tmp_path / "published.pth", ours, overwrite=True)
    assert read(ours).dialect == "esc-sr"
    weights.convert(ours, back, "official")
    same(weights.load(ours), network)
    same(weights.load(back), network)
    assert torch.load(back, weights_only=True)["params"].keys() == network.state_dict().keys()


def test_names() -> None:
    assert describe(BSRNConfig(3)) == "BSRN x3" and variant(BSRNConfig(3)) == "bsrn"
    assert describe(BSRNConfig(2, 48, 5)) == "BSRN x2 of 48 channels, 5 blocks"
    assert variant(BSRNConfig(2, 48, 5)) is None
    assert describe(SRVGGConfig()) == "SRVGGNetCompact x4 of 64 channels, 32 convolutions"
    assert variant(SRVGGConfig()) == "realesr-general-x4v3"


def refusal(path: Path, **how: Any) -> str:
    built = list[str]()
    hook = register_module_parameter_registration_hook(lambda module, name, parameter: built.append(name))
    with pytest.raises(WeightsError) as caught, hook:
        weights.load(path, **how)
    assert len(built) < 1000  # it is refused before what it claims to be is built
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def lose(*names: str) -> Callable[[State], object]:
    return lambda state: [state.pop(name) for name in names]


def gain(name: str, value: Tensor) -> Callable[[State], object]:
    return lambda state: state.update({name: value})


LAST = "upsampler.upsampleOneStep.0.weight"
BSRN = "recognised as BSRN"
SRVGG = "recognised as SRVGGNetCompact"
TINY_BSRN = "recognised as BSRN x2 of 16 channels, 2 blocks, but tensors are"
TINY_SRVGG = "recognised as SRVGGNetCompact x2 of 8 channels, 3 convolutions, but tensors are"
HUGE = torch.zeros(1)


@pytest.mark.parametrize(
    ("kind", "harm", "said"),
    [
        ("bsrn", lose("B2.esa.conv4.bias"), f"{TINY_BSRN} missing (1: B2.esa.conv4.bias)"),
        ("bsrn", lose("fea_conv.pw.weight"), f"{BSRN}, but tensors are missing (1: fea_conv.pw.weight)"),
        ("bsrn", lose(LAST), f"{BSRN}, but tensors are missing (1: {LAST})"),
        ("bsrn", gain("B1.gate", HUGE), f"{TINY_BSRN} unexpected (1: B1.gate)"),
        (
            "bsrn",
            gain("c2.dw.bias", torch.zeros(15)),
            f"{TINY_BSRN} of another kind (1: c2.dw.bias float32[15]",
        ),
        (
            "bsrn",
            gain("c2.dw.bias", torch.zeros(16).char()),
            f"{TINY_BSRN} of another kind (1: c2.dw.bias int8",
        ),
        ("bsrn", gain(LAST, torch.zeros(13, 16, 3, 3)), f"{BSRN}, but 13 output channels are not 3 times"),
        ("bsrn", gain(LAST, torch.zeros(())), f"{BSRN}, but "),
        (
            "bsrn",
            gain(LAST, HUGE.expand(3 * 10**10, 16, 3, 3)),
            f"{LAST} has more numbers than the file",
        ),
        ("bsrn", gain("fea_conv.pw.weight", HUGE.expand(2**40, 12, 1, 1)), ""),
        ("bsrn", gain("fea_conv.pw.weight", torch.zeros(0, 12, 1, 1)), f"{BSRN}, but scale 2 and 2 blocks"),
        ("bsrn", gain("B999999999.x", HUGE), f"{BSRN} x2 of 16 channels, 3 blocks, but tensors are missing"),
        (
            "bsrn",
            lambda s: s.update({f"B{n}.x": HUGE for n in range(20000)}),
            f"{BSRN}, but 20000 blocks have",
        ),
        ("srvgg", lose("body.8.weight"), f"{SRVGG}, but tensors are missing (1: body.8.weight)"),
        ("srvgg", lose("body.0.weight"), f"{SRVGG}, but tensors are missing (1: body.0.weight)"),
        ("srvgg", lose("body.4.weight"), f"{TINY_SRVGG} missing (1: body.4.weight)"),
        ("srvgg", gain("tail.bias", HUGE), f"{TINY_SRVGG} unexpected (1: tail.bias)"),
        ("srvgg", gain("body.3.weight", torch.zeros(1)), f"{TINY_SRVGG} of another kind (1: body.3.weight"),
        ("srvgg", gain("body.8.weight", torch.zeros(12, 8, 3)), f"{TINY_SRVGG} of another kind"),
        ("srvgg", gain("body.999999998.weight", torch.zeros(12, 8, 3, 3)), f"{SRVGG}, but of layers up to"),
        ("srvgg", gain("body.0.weight", HUGE.expand(2**33, 3, 3, 3)), "body.0.weight has more numbers"),
        ("srvgg", gain("body.2.weight", HUGE.expand(8, 8, 3, 3)), "body.2.weight has more numbers"),
    ],
)
def test_what_is_wrong_is_said(kind: str, harm: Callable[[State], object], said: str, tmp_path: Path) -> None:
    state = dict(TINY[kind].state_dict())
    harm(state)
    torch.save({"params": state}, tmp_path / "given.pth")
    assert refusal(tmp_path / "given.pth").startswith(said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dim": 8192}, "its header tells of BSRN x2 of 8192 channels, 2 blocks, its tensors are those of"),
        ({"blocks": 10**6}, "its header tells of BSRN x2 of 16 channels, 1000000 blocks, its tensors"),
        ({"scale": 10**9}, "its header tells of BSRN x1000000000"),
        ({"dim": "many"}, "the sizes in its header cannot be read"),
        ({"dim": float("inf")}, "the sizes in its header cannot be read|its header tells"),
        ({"colour": 1}, "the sizes in its header cannot be read"),
    ],
)
def test_headers_that_lie(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path, network = tmp_path / "ours.safetensors", bsrn()
    config = json.dumps({"scale": 2, "dim": 16, "blocks": 2} | change)
    metadata = {"format": "esc-sr 1", "kind": "bsrn", "config": config}
    safetensors.torch.save_file(dict(network.state_dict()), path, metadata)
    assert any(refusal(path).startswith(one) for one in said.split("|"))
    safetensors.torch.save_file(dict(network.state_dict()), path, metadata | {"config": "[" * 10**5})
    assert refusal(path).startswith("the sizes in its header cannot be read")


@pytest.mark.parametrize("network", TINY.values(), ids=TINY)
def test_cut_off_anywhere(network: Network, tmp_path: Path) -> None:
    for path in (tmp_path / "cut.pth", tmp_path / "cut.safetensors"):
        if path.suffix == ".pth":
            torch.save({"params": network.state_dict()}, path)
        else:
            weights.save(network, path)
        whole = path.read_bytes()
        for length in (1, 100, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            assert "damaged" in refusal(path)


def test_another_scale_or_family(tmp_path: Path) -> None:
    path = tmp_path / "b.pth"
    torch.save({"params": bsrn().state_dict()}, path)
    said = "is BSRN x2 of 16 channels, 2 blocks"
    assert refusal(path, scale=3) == f"{said}, not x3; give weights of that scale"
    with pytest.raises(WeightsError, match=f"{said}, which esc-light x2 cannot start from"):
        weights.starting_weights(path, PRESETS["esc-light"][2])
    weights.convert(path, tmp_path / "x3.safetensors", scale=3)
    wider = weights.load(tmp_path / "x3.safetensors")
    assert describe(wider.config) == "BSRN x3 of 16 channels, 2 blocks"
    lr = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        assert wider(lr).shape == (1, 3, 60, 60)
    start = weights.starting_weights(path, wider.config)
    assert all(torch.equal(start[name], value) for name, value in wider.state_dict().items())


def test_info_tells_what_it_is(tmp_path: Path) -> None:
    torch.save({"params": srvgg().state_dict()}, tmp_path / "s.pth")
    result = CliRunner().invoke(app, ["info", str(tmp_path / "s.pth"), "--json"])
    facts = json.loads(result.stdout)
    assert facts["network"] == "SRVGGNetCompact x2 of 8 channels, 3 convolutions"
    assert facts["sizes"] == {"scale": 2, "dim": 8, "convs": 3}
    assert (facts["names"], facts["inside"], facts["scale"]) == ("authors", "params", 2)
