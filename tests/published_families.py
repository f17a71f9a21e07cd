"""The networks of other papers for the tests: golden files, and what is published of their sizes."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esc_sr import families, weights
from esc_sr.families.contract import Network
from weights_files import Golden, golden


@dataclass(frozen=True)
class Published:
    """What is promised of a preset.

    Attributes:
        files: Golden files; the first is small, in each dialect that there is.
        parameters: By scale.
        gmacs: G MACs for an output of 1280 x 720, to two digits, by scale.
        small: Sizes with which it is quick, for what golden files do not tell.
        white: Range of colours in the golden files.
        exact: Whether tiles give the same as one piece.
    """

    files: tuple[str, ...]
    parameters: dict[int, int]
    gmacs: dict[int, float]
    small: dict[str, Any]
    white: float = 1.0
    exact: bool = False

    def network(self, name: str) -> Network:
        """A small one with random weights, of the smallest scale."""
        torch.manual_seed(0)
        return families.build(replace(families.preset(name, min(self.parameters)), **self.small)).eval()


PUBLISHED = {
    "hit-srf": Published(
        ("hit_srf_tiny_x2", "hit_srf_tiny_x3"),
        {2: 846_944, 3: 855_059, 4: 866_420},
        {2: 226.48, 3: 101.42, 4: 57.99},
        {"dim": 16, "depths": (3, 1), "heads": 2, "hidden": 32, "windows": (2, 4, 8), "base": 4},
    ),
    "srformer-light": Published(
        ("srformer_light_tiny_x2", "srformer_light_tiny_w16_x2"),
        {2: 853_272, 3: 861_387, 4: 872_748},
        {2: 236.23, 3: 104.83, 4: 62.82},
        {"dim": 12, "depths": (2, 2), "heads": 2, "window": 8, "hidden": 24},
    ),
    "atd-light": Published(
        ("atd_light_tiny_x2",),
        {2: 753_204, 3: 759_699, 4: 768_792},
        {2: 380.01, 3: 167.96, 4: 100.09},
        {"dim": 12, "depths": (2, 2), "heads": 2, "window": 8, "category": 32, "tokens": 8, "hidden": 12},
    ),
    "elan-light": Published(
        ("elan_light_tiny_x2",),
        {2: 620_916, 3: 629_031, 4: 640_392},
        {2: 201.34, 3: 89.48, 4: 53.72},
        {"dim": 12, "blocks": 2, "hidden": 24},
        white=255.0,
    ),
    "omnisr": Published(
        ("omnisr_tiny_x2",),
        {2: 784_604, 3: 793_259, 4: 805_376},
        {2: 194.50, 3: 88.42, 4: 50.92},
        {"dim": 8, "groups": 2, "window": 4},
    ),
    "asid-d8": Published(
        ("asid_d8_tiny_x2",),
        {2: 732_146, 3: 738_641, 4: 747_734},
        {2: 190.48, 3: 86.38, 4: 49.59},
        {"dim": 16, "blocks": 2, "window": 4},
    ),
    "swinir-light": Published(
        ("swinir_light_tiny_x2",),
        {2: 910_152, 3: 918_267, 4: 929_628},
        {2: 244.37, 3: 110.80, 4: 63.59},
        {"dim": 12, "depths": (2, 2), "heads": 2, "hidden": 24},
    ),
    "swinir-real-m": Published(
        ("swinir_real_tiny_x4",),
        {4: 11_715_559},
        {4: 808.60},
        {"dim": 12, "depths": (2,), "heads": 2, "hidden": 24},
    ),
    "swinir-real-l": Published(
        ("swinir_real_tiny_x4",),
        {4: 28_013_059},
        {4: 1813.67},
        {"dim": 12, "depths": (2,), "heads": 2, "hidden": 24},
    ),
    "rcan": Published(
        ("rcan_tiny_x2", "rcan_tiny_x4"),
        {2: 15_444_667, 3: 15_629_307, 4: 15_592_379},
        {2: 3529.74, 3: 1586.05, 4: 917.61},
        {"dim": 16, "groups": 2, "blocks": 2, "inner": 2},
        white=255.0,
    ),
    "rdn": Published(
        ("rdn_tiny_x2", "rdn_tiny_x3", "rdn_tiny_x4"),
        {2: 22_123_395, 3: 22_308_035, 4: 22_271_107},
        {2: 5096.18, 3: 2281.16, 4: 1309.21},
        {"dim": 16, "growth": 16, "blocks": 2, "convs": 2},
        exact=True,
    ),
    "realesrgan-x4plus": Published(
        ("rrdb_tiny_g8_x4", "rrdb_tiny_x4"),
        {4: 16_697_987},
        {4: 1032.66},
        {"dim": 8, "growth": 8, "blocks": 1},
        exact=True,
    ),
    "realesrgan-x2plus": Published(
        ("rrdb_tiny_x2",), {2: 16_703_171}, {2: 1032.96}, {"dim": 8, "growth": 8, "blocks": 1}, exact=True
    ),
    "dasr": Published(
        ("dasr_liang_tiny_x2", "dasr_liang_tiny_x4"),
        {2: 7_317_438, 4: 8_055_998},
        {2: 404.88, 4: 161.88},
        {"dim": 8, "blocks": 2, "predictor": 8},
    ),
    "mambair-light": Published(
        ("mambair_light_tiny_x2",),
        {2: 905_016, 3: 913_131, 4: 924_492},
        {2: 334.11, 3: 149.09, 4: 84.65},
        {"dim": 12, "depths": (1, 1), "expanded": 14, "state": 4, "rank": 2, "narrow": 6},
    ),
    "mambairv2-light": Published(
        ("mambairv2_light_tiny_x2",),
        {2: 774_092, 3: 780_587, 4: 789_680},
        {2: 286.30, 3: 126.71, 4: 75.64},
        {"dim": 12, "depths": (2, 1), "heads": 2, "window": 8, "expanded": 12, "state": 4, "rank": 2}
        | {"tokens": 8, "inner": 6, "hidden": 12},
    ),
    "DASR of Wei et al.": Published(("dasr_wei_tiny_x4",), {}, {}, {}),
    "rcan of BasicSR": Published(("rcan_basicsr_tiny_x4",), {}, {}, {}),
}
"""By preset, or what else a dialect is called."""

PRESETS = {name: case for name, case in PUBLISHED.items() if case.parameters}

FILES = sorted({(file, case.white) for case in PUBLISHED.values() for file in case.files})


def loaded(file: str, folder: Path) -> tuple[Golden, Network]:
    """A golden file, and the network that a checkpoint of its state is."""
    sample = golden(file)
    torch.save({"params": sample.state}, folder / f"{file}.pth")
    return sample, weights.load(folder / f"{file}.pth")


def enlarged(network: Network, sample: Golden, white: float) -> Tensor:
    """What a network makes of the input of a golden file, in its range."""
    with torch.inference_mode():
        return network(sample.tensors["input"] / white) * white
