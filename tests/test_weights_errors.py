"""Files that cannot be loaded: one line that says why, and nothing of them is run."""

import json
import os
import pickle
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from esc_sr import families, weights
from esc_sr.errors import WeightsError
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.weights.container import write_atomically
from weights_files import golden

TINY: dict[str, Any] = {"dim": 16, "pdim": 8, "n_blocks": 2, "n_convattn": 2, "window": 8, "heads": 2}


def refusal(path: Path) -> str:
    """The message with which a file is refused."""
    with pytest.raises(WeightsError) as caught:
        weights.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def refused(content: object, tmp_path: Path) -> str:
    torch.save(content, tmp_path / "given.pth")
    return refusal(tmp_path / "given.pth")


class Bomb:
    """Creates a file when it is unpickled without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle", "as a key"])
def test_code_in_a_pickle_is_refused_and_not_run(form: str, tmp_path: Path) -> None:
    target, path = tmp_path / "executed", tmp_path / "bomb.pth"
    content: dict[Any, Any] = {"params_ema": golden("esc_tiny_x2").state, "note": Bomb(target)}
    if form == "as a key":
        content = {"params_ema": {(Bomb(target),): torch.zeros(1)}}
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(Bomb(target), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    message = refusal(path)
    assert message.startswith(f"refused, it holds more than tensors ({os.mkdir.__module__}.mkdir)")
    assert not target.exists()
    with open(path, "rb") as file:  # the file is a working bomb
        torch.load(file, weights_only=False) if form != "bare pickle" else pickle.load(file)
    assert target.exists()


def test_what_is_no_file_or_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nothing\.pth: neither a file nor bundled"):
        weights.load(tmp_path / "nothing.pth")
    with pytest.raises(WeightsError, match="neither a file"):
        weights.load(tmp_path)
    path = tmp_path / "given.pth"
    for content, said in [
        (b"", "is empty"),
        (
            b"<!DOCTYPE html><html>not found</html>",
            "a web page, such as servers send in place of a file, and no",
        ),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS, which `git lfs pull`"),
        ("Grüße\n".encode() * 700, "a text file, and no checkpoint"),
        (b"notes\n", "a text file, and no checkpoint"),
        (b"\xff\xfeab", "no checkpoint, or damaged"),
        (b"PK\x03\x04" + bytes(100), "no checkpoint, or damaged"),
        (bytes(8) + b"{}", "safetensors file, but damaged"),
        (b"\xff" * 8 + b"{}", "safetensors file, but damaged"),
        (random.Random(0).randbytes(4096), "no checkpoint, or damaged"),
    ]:
        path.write_bytes(content)
        assert refusal(path).startswith(said)
    assert refused([torch.zeros(3)], tmp_path).startswith("no checkpoint, it holds a list")
    assert refused({"epoch": 3, "model": {"name": "x"}}, tmp_path).startswith("a checkpoint without weights")


@pytest.mark.parametrize("kind", ["pth", "legacy", "safetensors"])
def test_truncated_anywhere(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "cut.file"
    state = golden("esc_tiny_x2").state
    if kind == "safetensors":
        weights.save(ESC(ESCConfig(**TINY)), path)
    else:
        torch.save({"params": state}, path, _use_new_zipfile_serialization=kind == "pth")
    whole = path.read_bytes()
    for length in (1, 7, 8, 9, 100, len(whole) // 3, len(whole) * 9 // 10, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "damaged" in refusal(path)


def test_flipped_bytes_load_or_are_refused(tmp_path: Path) -> None:
    path, chance = tmp_path / "flipped.pth", random.Random(1)
    torch.save({"params": golden("esc_tiny_x2").state}, path)
    whole = path.read_bytes()
    for _ in range(25):
        damaged = bytearray(whole)
        for _ in range(20):
            damaged[chance.randrange(len(whole))] = chance.randrange(256)
        for _ in range(3):  # the pickle is at the front, the directory at the back
            damaged[chance.randrange(2000)] = damaged[-chance.randrange(1, 2000)] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            weights.load(path)
        except WeightsError as error:
            assert "\n" not in str(error)


NAMES = {
    "ESC-RIB": ["plk_filter", "blocks.0.attn.to_hidden", "upsampler.up_conv.weight"],
    "LTE with the encoder RCAN": ["encoder.body.0.body.0.body.3.conv_du.0.bias", "coef.bias", "freq.bias"],
    "neosr's ESC-FP with realsr on": ["lk_channel", "lk_spatial", "skip.0.weight"],
    "neosr's ESC with two convolutions": [
        "plk_filter",
        "skip.0.weight",
        "to_img.1.weight",
        "to_img.3.weight",
    ],
    "ESC converted for mobile": ["plk_filter", "blocks.0.attn.rpe_bias"],
}


@pytest.mark.parametrize("network", NAMES)
def test_other_networks_are_refused_by_name(network: str, tmp_path: Path) -> None:
    message = refused({"params": {name: torch.zeros(2) for name in NAMES[network]}}, tmp_path)
    assert message.startswith(f"is {network}")
    assert "cannot be loaded" in message


def test_unknown_network_is_told_by_its_first_names(tmp_path: Path) -> None:
    state = {name: torch.zeros(2) for name in ("conv.weight", "fc.weight", "fc.bias", "gamma")}
    message = refused(state, tmp_path)
    told = "no network that is known here; it has 4 tensors: conv.weight, fc.weight, fc.bias, ...; "
    assert message.startswith(told) and "spandrel" in message.removeprefix(told)


def test_unknown_network_is_told_by_the_nearest_known(tmp_path: Path) -> None:
    state = families.blank(families.preset("swinir-light", 2)).state_dict()
    block = "layers.3.residual_group.blocks.5."
    changed = {name.replace("attn.qkv", "overlap_attn.qkv"): torch.zeros(2) for name in state}
    message = refused(changed | {f"{block}gate": torch.zeros(2)}, tmp_path)
    first, second = message.split("; near is ")[1:]
    lacks = "layers.0.residual_group.blocks.0.attn.qkv.weight, layers.0.residual_group.blocks.0.attn.qkv.bias"
    assert re.match(rf"SwinIR \(\d\d% alike; the file lacks {lacks}; the file has besides ", first)
    assert first.endswith("layers.0.residual_group.blocks.0.overlap_attn.qkv.bias, ...)")
    assert re.match(r"[\w-]+ \(\d\d% alike", second) and len(message) < 1000
    scanned = {"RDBs.0.convs.0.conv.0.w": torch.zeros(1)} | {f"gate.{i}": torch.zeros(1) for i in range(9)}
    assert "near is" not in refused(scanned, tmp_path)


@pytest.mark.parametrize(
    "meta, said",
    [
        ([3, 5, 4, 32, 3, 64, 4], "is ESC-Real-M (traiNNer-redux) with the upsampler 'transpose+conv' at x4"),
        ([3, 7, 4, 32, 3, 64, 4], "is ESC-Real-M (traiNNer-redux) with the upsampler 'pa_up' at x4"),
        ([2, 0, 4, 32, 3, 64, 4], "is ESC-Real-M (authors) with the upsampler 'conv' at x4"),
        ([254, 3, 4, 32, 3, 64, 4], "is ESC-Real-M with an upsampler of another make"),
        ([2, 3], "is ESC-Real-M with an upsampler of another make"),
        ([2, 3, 2, 32, 3, 48, 4], "recognised as ESC, but its upsampler fits none of"),
    ],
)
def test_upsamplers_we_do_not_have_are_refused_by_name(meta: list[int], said: str, tmp_path: Path) -> None:
    state = golden("esc_realm_tiny_x2_nearest_conv").state
    state["to_img.MetaUpsample"] = torch.tensor(meta, dtype=torch.uint8)
    assert refused(state, tmp_path).startswith(said)


def test_several_problems_are_told_in_one_line(tmp_path: Path) -> None:
    state = golden("esc_tiny_x2").state
    state["last.gain"] = state.pop("last.bias")
    message = refused({"params": state}, tmp_path)
    assert message.endswith("but tensors are missing (1: last.bias), unexpected (1: last.gain)")


def lose(*names: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: [state.pop(name) for name in names]


def gain(name: str, value: Tensor) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    "harm, said",
    [
        (
            lose("proj.bias", "last.weight", "blocks.1.ln_out.weight", "blocks.0.ln_out.bias"),
            "ESC of 16 channels, 2 blocks x2, but tensors are missing "
            "(4: proj.bias, blocks.0.ln_out.bias, blocks.1.ln_out.weight, ...)",
        ),
        (lose("to_img.bias"), "ESC of 16 channels, 2 blocks x2, but tensors are missing (1: to_img.bias)"),
        (lose("to_img.weight"), "ESC, but tensors are missing (1: to_img.weight)"),
        (lose("proj.weight"), "ESC, but tensors are missing (1: proj.weight)"),
        (lose("plk_filter"), None),
        (
            lose("blocks.0.attn.relative_position_bias"),
            "ESC, but tensors are missing (1: blocks.0.attn.relative_position_bias)",
        ),
        (
            gain("blocks.0.gate.weight", torch.zeros(1)),
            "ESC of 16 channels, 2 blocks x2, but tensors are unexpected (1: blocks.0.gate.weight)",
        ),
        (
            gain("head.weight", torch.zeros(16, 3, 3, 3)),
            "ESC of 16 channels, 2 blocks x2, but tensors are unexpected (1: head.weight)",
        ),
        (
            gain("last.bias", torch.zeros(15)),
            "ESC of 16 channels, 2 blocks x2, but tensors are of another kind "
            "(1: last.bias float32[15] for float32[16])",
        ),
        (
            gain("last.bias", torch.zeros(16, dtype=torch.int8)),
            "ESC of 16 channels, 2 blocks x2, but tensors are of another kind "
            "(1: last.bias int8[16] for float32[16])",
        ),
        (
            gain("to_img.weight", torch.zeros(13, 16, 3, 3)),
            "ESC, but its upsampler fits none of pixelshuffledirect, ",
        ),
        (
            gain("blocks.0.attn.relative_position_bias", torch.zeros(2, 224)),
            "ESC, but 224 position",
        ),
        (gain("blocks.0.attn.relative_position_bias", torch.zeros(2)), "ESC, but "),
        (gain("blocks.0.attn.relative_position_bias", torch.zeros(0, 225)), "ESC, but "),
        (
            gain("blocks.0.attn.relative_position_bias", torch.zeros(3, 225)),
            "ESC, but dim 16 is not",
        ),
    ],
)
def test_missing_unexpected_and_misshapen_tensors(
    harm: Callable[[dict[str, Tensor]], object], said: str | None, tmp_path: Path
) -> None:
    state = golden("esc_tiny_x2").state
    harm(state)
    message = refused({"params_ema": state}, tmp_path)
    expected = "no network that is known here; it has" if said is None else f"recognised as {said}"
    assert message.startswith(expected)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"format": "esc-sr 2"}, "has the format 'esc-sr 2', not 'esc-sr 1'; update esc-sr"),
        ({"config": "{"}, "the sizes in its header cannot be read"),
        ({"config": '{"dim": "many"}'}, "the sizes in its header cannot be read"),
        ({"config": '{"colour": 1}'}, "the sizes in its header cannot be read"),
        (
            {"config": '{"dim": 16.0, "heads": 1, "pdim": 8}'},
            "the sizes in its header cannot be read (dim is",
        ),
        ({"config": '{"n_blocks": "many"}'}, "the sizes in its header cannot be read (n_blocks is 'many')"),
        (
            {"config": json.dumps({**TINY, "n_blocks": 3})},
            "recognised as ESC of 16 channels, 3 blocks x2, but",
        ),
        ({"card": "{"}, "its card cannot be read"),
        ({"card": "[1]"}, "its card cannot be read (no JSON object)"),
        ({"card": "[" * 100_000}, "its card cannot be read"),
    ],
)
def test_headers_of_ours_that_are_wrong(change: dict[str, str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    weights.save(ESC(ESCConfig(**TINY)), path, {"iterations": 1})
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata() | change
        del metadata["hash"]  # which comes first
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    safetensors.torch.save_file(tensors, path, metadata)
    assert refusal(path).startswith(said)


def test_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    write_atomically(path, b"old")
    model = ESC(ESCConfig(**TINY))
    with pytest.raises(WeightsError, match="cannot be written"):
        weights.save(model, tmp_path / "missing" / "a.safetensors")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WeightsError, match=r"No space left on device\); nothing was changed"):
        weights.save(model, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
