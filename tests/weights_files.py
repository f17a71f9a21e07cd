"""Checkpoints for the tests: golden files, and the parameter names of every published variant."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

DATA = Path(__file__).parent / "data"
GOLDEN = sorted(path.stem for path in (DATA / "golden").glob("*.safetensors"))
VARIANTS = sorted(path.stem for path in (DATA / "keys").glob("*.json"))


@dataclass(frozen=True)
class Golden:
    """A network's parameters by the authors' names, what it was built from, an input and its output."""

    arch: str
    config: dict[str, Any]
    state: dict[str, Tensor]
    tensors: dict[str, Tensor]


def golden(name: str) -> Golden:
    with safe_open(DATA / "golden" / f"{name}.safetensors", "pt") as file:
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
