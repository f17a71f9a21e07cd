"""Other names of the same tensors, as other programs have them."""

import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from esc_sr import weights
from esc_sr.cli.main import app
from esc_sr.errors import WeightsError
from esc_sr.families.rrdb import RRDBConfig, RRDBNet
from weights_files import golden

RDN = {
    "SFENet": "sfe",
    "RDBs": "rdbs",
    ".convs.": ".layers.",
    ".conv.0.": ".conv.",
    "LFF": "lff",
    "GFF": "gff",
    "UPNet.4": "output",
    "UPNet": "upscale",
}


def test_rdn_of_other_ports(tmp_path: Path) -> None:
    sample = golden("rdn_tiny_x4")
    state = {}
    for name, value in sample.state.items():
        for ours, theirs in RDN.items():
            name = name.replace(ours, theirs)
        state[f"generator.{name}"] = value
    assert {"generator.rdbs.1.layers.0.conv.bias", "generator.output.weight"} < state.keys()
    torch.save({"state_dict": state}, tmp_path / "rdn.pth")
    with torch.inference_mode():
        sr = weights.load(tmp_path / "rdn.pth")(sample.tensors["input"])
    torch.testing.assert_close(sr, sample.tensors["output"], atol=1e-4, rtol=0)
    told = CliRunner().invoke(app, ["info", str(tmp_path / "rdn.pth")]).stdout
    assert "RDN x4 of 16 channels, 2 blocks of 2 convolutions" in told and "RDN-pytorch" in told


NEW_ESRGAN = {"body": "RRDB_trunk", "rdb": "RDB", "conv_up": "upconv", "conv_hr": "HRconv"}


def test_rrdb_of_esrgan_and_bsrgan(tmp_path: Path) -> None:
    sample = golden("rrdb_tiny_g8_x4")
    state = {}
    for name, value in sample.state.items():
        renamed = name.replace("conv_body", "trunk_conv")
        for ours, theirs in NEW_ESRGAN.items():
            renamed = renamed.replace(ours, theirs)
        state[renamed] = value
    assert {"RRDB_trunk.1.RDB3.conv5.bias", "trunk_conv.bias", "upconv2.weight", "HRconv.bias"} < state.keys()
    torch.save(state, tmp_path / "esrgan.pth")
    with torch.inference_mode():
        sr = weights.load(tmp_path / "esrgan.pth")(sample.tensors["input"])
    torch.testing.assert_close(sr, sample.tensors["output"], atol=1e-4, rtol=0)


def test_old_esrgan_of_other_scales(tmp_path: Path) -> None:
    """It has as many convolutions behind the blocks as the scale has doublings, and two more."""
    ours = "conv_first", "conv_up1", "conv_hr", "conv_last"
    for scale, layers in ((1, (0, 2, 4)), (2, (0, 3, 5, 7))):
        network = RRDBNet(RRDBConfig(scale, 8, 4, 1)).eval()
        there = (name for name in ours if scale == 2 or name != "conv_up1")
        names = {"conv_body": "1.sub.1"} | {name: str(n) for name, n in zip(there, layers, strict=True)}
        state = {}
        for name, value in network.state_dict().items():
            layer, _, rest = name.partition(".")
            inner = re.sub(r"(\d)\.rdb(\d)\.conv(\d)\.", r"1.sub.\1.RDB\2.conv\3.0.", rest)
            state[f"model.{inner if layer == 'body' else f'{names[layer]}.{rest}'}"] = value
        torch.save(state, tmp_path / "old.pth")
        again = weights.load(tmp_path / "old.pth")
        assert again.config == network.config
        assert all(torch.equal(value, again.state_dict()[n]) for n, value in network.state_dict().items())


def test_rcan_goes_from_basicsr_to_its_authors_names(tmp_path: Path) -> None:
    sample, authors = golden("rcan_basicsr_tiny_x4"), golden("rcan_tiny_x4")
    torch.save({"params": sample.state}, tmp_path / "basicsr.pth")
    weights.convert(tmp_path / "basicsr.pth", tmp_path / "authors.pth", to="official")
    found = torch.load(tmp_path / "authors.pth", weights_only=True)["params"]
    assert found.keys() == authors.state.keys()
    for name in ("sub_mean.bias", "add_mean.weight"):
        torch.testing.assert_close(found[name], authors.state[name])


def test_dasr_of_liang_in_two_files(tmp_path: Path) -> None:
    sample = golden("dasr_liang_tiny_x4")
    for part in "gp":
        state = {name[2:]: value for name, value in sample.state.items() if name.startswith(f"{part}.")}
        torch.save({"params": state} if part == "g" else state, tmp_path / f"net_{part}_latest.pth")
    for part in "gp":
        with torch.inference_mode():
            sr = weights.load(tmp_path / f"net_{part}_latest.pth")(sample.tensors["input"])
        torch.testing.assert_close(sr, sample.tensors["output"], atol=1e-4, rtol=0)
    (tmp_path / "net_p_latest.pth").rename(tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"one part of DASR .* beside it, which is not there"):
        weights.load(tmp_path / "net_g_latest.pth")
    with pytest.raises(WeightsError, match=r"whose name does not follow"):
        weights.load(tmp_path / "other.pth")
