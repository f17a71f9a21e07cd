"""Files made, or broken, to harm: refused in one line, at once and in no memory, or read as written."""

import io
import json
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from esc_sr import weights
from esc_sr.errors import WeightsError
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.esc.detect import infer
from esc_sr.families.family import Tensors
from esc_sr.families.lte.config import LTEConfig
from esc_sr.families.lte.network import EncoderLTE
from esc_sr.weights import checkpoint, facts

SIZES: dict[str, Any] = {
    "dim": 8,
    "pdim": 4,
    "kernel": 3,
    "n_blocks": 1,
    "n_convattn": 1,
    "window": 4,
    "heads": 2,
}


@pytest.fixture(scope="module")
def network() -> ESC:
    return ESC(ESCConfig(**SIZES))


@pytest.fixture
def path(network: ESC, tmp_path: Path) -> Path:
    """A file of ours."""
    found = tmp_path / "ours.safetensors"
    weights.save(network, found, {"iterations": 7})
    return found


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        checkpoint.read(path)
    message = str(caught.value).removeprefix(f"{path}: ")
    assert "\n" not in message and len(message) < 700
    return message


def refused(content: object, tmp_path: Path) -> str:
    torch.save(content, tmp_path / "given.pth")
    return refusal(tmp_path / "given.pth")


def changed(path: Path, tensors: Tensors | None = None, **header: str) -> Path:
    """A file of ours with other tensors or entries in its header, and without its hash."""
    with safe_open(path, "pt") as file:
        before = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        metadata = file.metadata()
    metadata.pop("hash", None)
    safetensors.torch.save_file(dict(tensors or before), path, metadata | header)
    return path


def same(found: Tensors, network: ESC) -> bool:
    wanted = network.state_dict()
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_wrappers_that_hold_each_other(tmp_path: Path) -> None:
    content: dict[str, object] = {}
    content["params"] = {"net": content}
    assert refused(content, tmp_path) == "no checkpoint, but wrappers inside each other without an end"


def repacked(content: object, change: Callable[[str, bytes], bytes], packed: bool = False) -> bytes:
    """A .pth, its parts changed and packed otherwise."""
    plain, other = io.BytesIO(), io.BytesIO()
    torch.save(content, plain)
    how = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(other, "w", how, compresslevel=1) as to:
        for part in source.namelist():
            to.writestr(part, change(part, source.read(part)))
    return other.getvalue()


@pytest.mark.parametrize(
    "pickled", [b"\x80\x02" + 50_000 * b"]" + b".", b"\x80\x02}" + 50_000 * b"(" + 50_000 * b"t" + b"K\x01s."]
)
def test_what_is_nested_without_an_end(pickled: bytes, tmp_path: Path) -> None:
    path = tmp_path / "deep.pth"
    path.write_bytes(repacked({}, lambda part, data: pickled if part.endswith("data.pkl") else data))
    assert "checkpoint" in refusal(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.pth"
    content = {"params": torch.zeros(4)}
    path.write_bytes(
        repacked(content, lambda part, data: bytes(2**28) if "data/0" in part else data, packed=True)
    )
    assert path.stat().st_size < 2**21
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpacked"))
    assert (
        refusal(path)
        == "no checkpoint, or damaged (it would unpack to 257 MiB, as no checkpoint does); fetch it again"
    )


def test_a_packed_checkpoint_is_read(network: ESC, tmp_path: Path) -> None:
    path = tmp_path / "packed.pth"
    path.write_bytes(repacked(network.state_dict(), lambda _, data: data, packed=True))
    assert same(checkpoint.read(path).state, network)


@pytest.mark.parametrize(
    "sizes",
    [
        *({name: 10**6} for name in ("n_blocks", "n_attn", "n_convattn", "unshuffle", "window")),
        {"n_convattn": 10**6, "own_kernels": True},
        {"dim": 2**20},
        {"scale": 10**9},
        {"expansion": 1e300},
        {"kernel": 10**6 + 1},
        {"dim": 10**30},
        {"upsampler": "nearest+conv", "scale": 2**60},
    ],
    ids=str,
)
def test_sizes_that_no_tensor_shows_are_not_built(sizes: dict[str, Any], path: Path, network: ESC) -> None:
    said = refusal(changed(path, config=json.dumps(network.config.sizes() | sizes)))
    assert said.startswith(("no network has the sizes it tells (", "recognised as ESC of "))


@pytest.mark.parametrize(
    "sizes",
    [
        {"window": -3},  # as many biases as 4
        {"window": 4.0},
        {"n_blocks": True},
        {"ffn_norm": 0},
        {"expansion": float("inf")},
        {"first_expansion": "2"},
        {"skip": ["nearest"]},
    ],
    ids=str,
)
def test_sizes_of_another_kind(sizes: dict[str, Any], path: Path, network: ESC) -> None:
    said = refusal(changed(path, config=json.dumps(network.config.sizes() | sizes)))
    assert said.startswith(f"the sizes in its header cannot be read ({next(iter(sizes))} ")


@pytest.mark.parametrize(
    "sizes", [{"hidden": 10**12}, {"hidden": 4.5}, {"mlp": [1] * 10**5}, {"mlp": "many"}], ids=str
)
def test_sizes_of_lte(sizes: dict[str, Any], tmp_path: Path) -> None:
    path, config = tmp_path / "lte.safetensors", LTEConfig(ESCConfig(**SIZES), hidden=4, mlp=(4,))
    weights.save(EncoderLTE(config), path)
    said = refusal(changed(path, config=json.dumps(config.sizes() | sizes)))
    assert said.startswith(("the sizes in its header", "no network has the sizes", "recognised as"))


@pytest.mark.filterwarnings("error:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused_without_a_warning(network: ESC, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    torch.save(network.state_dict() | {"head.bias": nested}, tmp_path / "given.pth")
    torch.set_warn_always(True)  # as where it is the first one
    try:
        assert refusal(tmp_path / "given.pth") == "head.bias is no tensor of plain numbers, as weights are"
    finally:
        torch.set_warn_always(False)


def test_an_upsampler_is_told_without_its_memory(network: ESC, tmp_path: Path) -> None:
    state = network.state_dict() | {"head.weight": torch.zeros(1, device="meta").expand(10**6, 3, 3, 3)}
    assert refused(state, tmp_path) == "head.weight is no tensor of plain numbers, as weights are"
    shapes = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    with pytest.raises(ValueError, match="its upsampler fits none of"):
        infer(shapes | {"head.weight": (10**6, 3, 3, 3)})


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (
            torch.full((8,), float("nan")),
            "damaged, or of a training that failed: not all is a finite number in 1 of",
        ),
        (torch.full((8,), -float("inf"), dtype=torch.float16), "damaged, or of a training that failed"),
        (torch.full((8,), 1e300, dtype=torch.float64), "damaged, or of a training that failed"),
        (
            torch.zeros(8, dtype=torch.complex64),
            "recognised as ESC of 8 channels, 1 blocks x2, but tensors are of an",
        ),
        (
            torch.zeros(8, dtype=torch.bool),
            "recognised as ESC of 8 channels, 1 blocks x2, but tensors are of an",
        ),
        (torch.zeros(8, device="meta"), "head.bias is no tensor of plain numbers"),
        (torch.zeros(8).to_sparse(), "head.bias is no tensor of plain numbers"),
        (torch.zeros(1).expand(8), "head.bias has more numbers than the file"),
        (torch.zeros(1).expand(2**62), "head.bias has more numbers than the file"),
        (torch.zeros(()), "recognised as ESC of 8 channels, 1 blocks x2, but tensors are of another kind"),
        (torch.zeros(0), "recognised as ESC of 8 channels, 1 blocks x2, but tensors are of another kind"),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_tensors_that_are_no_weights(tensor: Tensor, said: str, network: ESC, tmp_path: Path) -> None:
    assert refused(network.state_dict() | {"head.bias": tensor}, tmp_path).startswith(said)


def test_one_piece_of_memory_for_many_tensors(network: ESC, tmp_path: Path) -> None:
    memory = torch.zeros(10**5)
    state = {name: memory[: t.numel()].view(t.shape) for name, t in network.state_dict().items()}
    assert same_shapes(state, network)
    torch.save(state, tmp_path / "shared.pth")
    checkpoint.read(tmp_path / "shared.pth")  # as it has so many numbers
    state = {f"a{number}": memory for number in range(3)}
    assert refused(state, tmp_path) == "its tensors have more numbers than the file; fetch it again"


def same_shapes(state: Tensors, network: ESC) -> bool:
    return all(state[name].shape == t.shape for name, t in network.state_dict().items())


def test_names_do_not_fill_the_screen(tmp_path: Path) -> None:
    said = refused({"a\nb" * 10**5: torch.zeros(1), "c": torch.zeros(1)}, tmp_path)
    assert said.startswith("no network that is known here; it has 2 tensors: a\\nba\\nb")


def test_a_hash_is_written_and_compared(path: Path, network: ESC) -> None:
    whole = path.read_bytes()
    assert len(facts.read_header(path)["hash"]) == 64
    assert same(checkpoint.read(path).state, network)
    state = {name: t.clone() for name, t in network.state_dict().items()}
    state["head.bias"][0] += 1
    header = facts.read_header(path)
    for tensors, entries in ((state, {}), (network.state_dict(), {"card": "{}"})):
        safetensors.torch.save_file(tensors, path, header | entries)
        assert refusal(path) == "damaged, it is not what was written by its hash; fetch it again"
    path.write_bytes(whole)
    assert same(checkpoint.read(changed(path)).state, network)  # as files were before they had one


@pytest.mark.parametrize("kind", ["ours", "pth"])
def test_flipped_bytes_never_change_a_weight(kind: str, path: Path, network: ESC) -> None:
    if kind == "pth":
        torch.save({"params": network.state_dict()}, path)
    whole, chance, refusals = path.read_bytes(), random.Random(2), 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= chance.randrange(1, 256)
        path.write_bytes(damaged)
        try:
            found = checkpoint.read(path)
        except WeightsError as error:
            assert "\n" not in str(error)
            refusals += 1
        else:
            assert same(found.state, network)
            assert kind == "pth" or found.card == {"iterations": 7}
    assert refusals > 100
