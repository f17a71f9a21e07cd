"""Other names of the same tensors, as other programs have them."""

from pathlib import Path

import torch
from typer.testing import CliRunner

from esc_sr import weights
from esc_sr.cli.main import app
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


def test_rcan_goes_from_basicsr_to_its_authors_names(tmp_path: Path) -> None:
    sample, authors = golden("rcan_basicsr_tiny_x4"), golden("rcan_tiny_x4")
    torch.save({"params": sample.state}, tmp_path / "basicsr.pth")
    weights.convert(tmp_path / "basicsr.pth", tmp_path / "authors.pth", to="official")
    found = torch.load(tmp_path / "authors.pth", weights_only=True)["params"]
    assert found.keys() == authors.state.keys()
    for name in ("sub_mean.bias", "add_mean.weight"):
        torch.testing.assert_close(found[name], authors.state[name])
