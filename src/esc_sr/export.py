"""Networks as graphs for other runtimes: ONNX and OpenVINO, for any batch, height and width."""

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from esc_sr.errors import UsageError, WeightsError
from esc_sr.families import describe
from esc_sr.families.contract import Graph, Network
from esc_sr.runtimes import SUFFIXES, Run, open_graph
from esc_sr.weights.checkpoint import header

NEEDS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
}
"""Kinds of graphs, and the packages that each needs; the extra of that name brings them."""

OPSET = 18
"""ONNX's operators, of December 2022, which most runtimes know."""

TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2}
"""By how much a graph may differ from its network in float32, as a part of the largest number, or of 1."""

_TRACED = (2, 37, 53)  # batch and sides that no window or fold divides: all padding is in the graph
_CHECKED = ((1, 37, 53), (3, 64, 96), (1, 5, 70))  # a graph must not know the sides that it was made with


class Exported(NamedTuple):
    """A graph that has been written and run.

    Attributes:
        path: The file; of OpenVINO the `.bin` beside it belongs to it.
        difference: The largest one from the network in float32, over pictures of several sizes.
    """

    path: Path
    difference: float


class _Part(NamedTuple):
    """A graph, and what it gives for pictures of `_CHECKED` sizes, in float32."""

    graph: Graph
    answers: list[tuple[Mapping[str, Tensor], list[Tensor]]]


def export(
    network: Network,
    out: Path,
    kind: str,
    *,
    precision: str = "fp32",
    opset: int = OPSET,
    overwrite: bool = False,
) -> list[Exported]:
    """Write a network as a graph that was run on pictures of several sizes and compared.

    Its `input` and `output` are (batch, 3, height, width), RGB in 0..1. A network for any size becomes two
    graphs, `OUT-encoder` and `OUT-query`; see its `graphs`.

    Args:
        network: On the CPU, in float32 and evaluation mode; it is changed.
        out: File to write, .onnx or .xml.
        kind: One of `NEEDS`.
        precision: fp32, or fp16: in ONNX all numbers, in OpenVINO only the weights as they are stored.
        opset: Version of ONNX's operators.
        overwrite: Replace files that exist.

    Raises:
        UsageError: There is no such kind or precision, the file has another suffix, exists, or cannot be
            written, packages are missing, or the network has no graphs.
        WeightsError: The graph differs from the network; nothing is written, or replaced.
    """
    _check(out, kind, precision)
    if not network.has_graphs:
        name = describe(network.config)
        raise UsageError(f"{name} cannot become a graph: it takes more steps the larger a picture is")
    parts = _parts(network, torch.float16 if (kind, precision) == ("onnx", "fp16") else torch.float32)
    paths = {name: out.with_name(f"{out.stem}-{name}{out.suffix}") if name else out for name in parts}
    if not overwrite and (there := [path for path in paths.values() if path.exists()]):
        raise UsageError(f"{there[0]}: exists; --overwrite replaces it")
    about = {"network": describe(network.config), "scale": str(network.config.scale or "any")}
    about |= header(network.config)
    found = []
    for name, part in parts.items():
        model = _to_onnx(part.graph, opset, about | {"part": name})
        write = {"onnx": _write_onnx, "openvino": _write_openvino}[kind]
        try:
            with tempfile.TemporaryDirectory(dir=out.parent) as folder:
                made = Path(folder) / paths[name].name
                write(model, made, precision)
                found.append(
                    Exported(paths[name], _compare(_run_of(made, kind), part, TOLERANCES[precision]))
                )
                for file in sorted(Path(folder).iterdir()):  # .bin before the .xml that needs it
                    file.replace(out.with_name(file.name))
        except OSError as error:
            raise UsageError(f"{paths[name]}: cannot be written ({error.strerror})") from error
    return found


def _check(out: Path, kind: str, precision: str) -> None:
    """Refuse what cannot be done before the work."""
    if kind not in NEEDS:
        raise UsageError(f"{kind}: no kind of graph; there are {', '.join(NEEDS)}")
    if precision not in TOLERANCES:
        raise UsageError(f"{precision}: no precision of a graph; there are {', '.join(TOLERANCES)}")
    if out.suffix.lower() != SUFFIXES[kind]:
        raise UsageError(f"{out}: {kind} has the suffix {SUFFIXES[kind]}")
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent}: no such folder")
    missing = [package for package in NEEDS[kind] if find_spec(package) is None]
    if missing:
        raise UsageError(f"{kind} needs {', '.join(missing)}: pip install 'esc-sr[{kind}]'")


def _parts(network: Network, dtype: torch.dtype) -> dict[str, _Part]:
    """The graphs of a network in this precision, and their answers in float32."""
    if network.attention is not None:
        network.attention = "sdpa"
    answers: dict[str, list[tuple[Mapping[str, Tensor], list[Tensor]]]] = {}
    with torch.no_grad():
        for batch, height, width in _CHECKED:
            lr = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(width))
            for name, graph in network.graphs(lr).items():
                found = graph.module(*graph.inputs.values())
                given = {key: value.to(dtype) for key, value in graph.inputs.items()}
                outputs = [found] if isinstance(found, Tensor) else [*found]
                answers.setdefault(name, []).append((given, outputs))
        batch, height, width = _TRACED
        graphs = network.to(dtype).graphs(torch.rand(batch, 3, height, width, dtype=dtype))
    return {name: _Part(graph, answers[name]) for name, graph in graphs.items()}


def _to_onnx(graph: Graph, opset: int, about: Mapping[str, str]) -> Any:
    """A model of package onnx."""
    dynamic = tuple({axis: torch.export.Dim.DYNAMIC for axis in graph.axes[name]} for name in graph.inputs)
    with _silent(), torch.no_grad():
        program = torch.onnx.export(
            graph.module.eval(),
            tuple(graph.inputs.values()),
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=dynamic,
            input_names=[*graph.inputs],
            output_names=[*graph.outputs],
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for tensor in (*model.graph.input, *model.graph.output):
        for axis, name in graph.axes.get(tensor.name, {}).items():
            tensor.type.tensor_type.shape.dim[axis].dim_param = name
    model.producer_name = "esc-sr"
    for key, value in about.items():
        model.metadata_props.add(key=key, value=value)
    return model


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what the exporter says of its own steps from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _write_onnx(model: Any, out: Path, precision: str) -> None:
    out.write_bytes(model.SerializeToString())


def _write_openvino(model: Any, out: Path, precision: str) -> None:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        _write_onnx(model, path, precision)
        graph = openvino.convert_model(path)
        for entry in model.metadata_props:
            graph.set_rt_info(entry.value, ["esc_sr", entry.key])
        openvino.save_model(graph, out, compress_to_fp16=precision == "fp16")


def _run_of(path: Path, kind: str) -> Run:
    return open_graph(path, kind).run


def _compare(run: Run, part: _Part, tolerance: float) -> float:
    """The largest difference from what the network gives.

    Raises:
        WeightsError: It is too large, or a shape is another.
    """
    largest = 0.0
    for inputs, wanted in part.answers:
        for one, two in zip(run(inputs), wanted, strict=True):
            if one.shape != two.shape:
                raise WeightsError(f"the graph gives {one.shape} in the place of {tuple(two.shape)}")
            difference = float(np.abs(one.astype(np.float32) - two.numpy()).max())
            if not difference <= tolerance * max(1.0, float(two.abs().max())):
                raise WeightsError(f"the graph differs from the network by {difference:.2g}")
            largest = max(largest, difference)
    return largest
