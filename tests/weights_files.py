"""Checkpoints for the tests: golden files, and the parameter names of every published variant."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from esc_sr import weights
from esc_sr.families.esc import ESC, ESCConfig

DATA = Path(__file__).parent / "data"
GOLDEN = (
    "esc_fp_tiny_x2",
    "esc_fp_tiny_x4",
    "esc_real_tiny_x4",
    "esc_realm_tiny_x1_nearest_conv",
    "esc_realm_tiny_x2_nearest_conv",
    "esc_realm_tiny_x3_pixelshuffledirect",
    "esc_realm_tiny_x4_nearest_conv",
    "esc_realm_tiny_x4_pixelshuffle",
    "esc_tiny_k9_x2",
    "esc_tiny_x2",
    "esc_tiny_x3",
    "esc_tiny_x4_ln",
    "lte_esc_tiny_s2.0",
    "lte_esc_tiny_s3.7",
)
VARIANTS = sorted(path.stem for path in (DATA / "keys").glob("*.json"))


@dataclass(frozen=True)
class Golden:
    """A network's parameters by the authors' names, what it was built from, an input and its output."""

    arch: str
    config: dict[str, Any]
    state: dict[str, Tensor]
    tensors: dict[str, Tensor]


def golden(name: str) -> Golden:
    """One of `GOLDEN`: those with layers of their own stand in data/golden, the others where we are told."""
    roots = DATA / "golden", Path(os.environ.get("ESC_SR_GOLDEN") or DATA / "golden")
    paths = [path for root in roots for path in root.rglob(f"{name}.safetensors")]
    if not paths:
        pytest.skip(f"needs {name}.safetensors: set ESC_SR_GOLDEN to the folder of the golden files")
    with safe_open(paths[0], "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        metadata = file.metadata()
    state = {key.removeprefix("state."): t for key, t in tensors.items() if key.startswith("state.")}
    return Golden(metadata["arch"], json.loads(metadata["config"]), state, tensors)


def published_shapes(variant: str) -> tuple[dict[str, tuple[int, ...]], int]:
    """Shapes by the authors' names, and the number of parameters, of a published variant."""
    listed = json.loads((DATA / "keys" / f"{variant}.json").read_text())
    shapes = {
        f"{listed['blocks']}.{i}.{name}": tuple(shape)
        for i in range(listed["n_blocks"])
        for name, shape in listed["block"].items()
    }
    shapes |= {name: tuple(shape) for name, shape in listed["rest"].items()}
    assert len(shapes) == listed["tensors"]
    return shapes, listed["parameters"]


def shelf_of_pairs(folder: Path) -> Path:
    """Fill a folder as that of bundled weights: tiny-x2, tiny-x4 and weak ones for x4 alone; plain-x2."""
    for seed, name in enumerate(("tiny-x2", "tiny-x4", "tiny-weak-x4", "plain-x2")):
        torch.manual_seed(seed)
        config = ESCConfig(int(name[-1]), dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)
        network = ESC(config)
        for parameter in network.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
        weights.save(network, folder / f"{name}.safetensors", dtype=torch.float16)
    return folder
