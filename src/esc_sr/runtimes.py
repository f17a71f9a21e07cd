"""Other runtimes than torch: opening a graph and running it on the CPU."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esc_sr.errors import DeviceError, UsageError, WeightsError

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
"""Kinds of graphs, and what their files end in."""

MODULES = {"onnx": "onnxruntime", "openvino": "openvino"}
"""The package that runs each kind; the extra of the kind's name brings it."""

ARITHMETIC = {"onnx": ("fp32",), "openvino": ("fp32", "bf16")}
"""What each computes in on a CPU; a graph that was exported in fp16 stays so."""

Run = Callable[[Mapping[str, Tensor]], list[NDArray[Any]]]
"""Inputs by name to the outputs in order."""


class Opened(NamedTuple):
    """A graph that is ready.

    Attributes:
        run: Computes it; several threads may at once.
        about: What the file tells of itself.
    """

    run: Run
    about: Mapping[str, str]


def check_runtime(kind: str, precision: str = "fp32") -> None:
    """Refuse what this machine cannot run.

    Args:
        kind: One of `SUFFIXES`.
        precision: Of the arithmetic.

    Raises:
        UsageError: The package is not installed, or has no such precision.
        DeviceError: The processor has no instructions for it.
    """
    if find_spec(MODULES[kind]) is None:
        raise UsageError(f"{kind} needs {MODULES[kind]}: pip install 'esc-sr[{kind}]'")
    if precision not in ARITHMETIC[kind]:
        raise UsageError(f"{kind} has no {precision} on a CPU; it has {', '.join(ARITHMETIC[kind])}")
    if (kind, precision) == ("openvino", "bf16"):
        if "BF16" not in _openvino().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise DeviceError("openvino has no bf16 on this processor, without AVX512-bf16 or AMX; use fp32")


def open_graph(path: Path, kind: str, precision: str = "fp32") -> Opened:
    """Open a graph, to be run on as many threads as torch uses now.

    Args:
        path: Its file.
        kind: One of `SUFFIXES`, which `check_runtime` has found.
        precision: Of the arithmetic, likewise.

    Raises:
        WeightsError: The file is missing or damaged.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        return _open_onnx(path) if kind == "onnx" else _open_openvino(path, precision)
    except Exception as error:  # what runtimes raise has no common class
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsError(f"{path}: cannot be opened as a graph for {kind} ({reason[0][:200]})") from error


def _open_onnx(path: Path) -> Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    half = {given.name for given in session.get_inputs() if given.type == "tensor(float16)"}

    def run(inputs: Mapping[str, Tensor]) -> list[NDArray[Any]]:
        given = {name: np.ascontiguousarray(value.numpy()) for name, value in inputs.items()}
        given = {name: value.astype(np.float16) if name in half else value for name, value in given.items()}
        return session.run(None, given)

    return Opened(run, session.get_modelmeta().custom_metadata_map)


@cache
def _openvino() -> Any:
    """OpenVINO's core, one until the process ends.

    Each gives the thread a stack for signals of its own; after the second of two has gone, the thread has one
    that is no longer there, and the next signal ends the process.
    """
    import openvino

    return openvino.Core()


def _open_openvino(path: Path, precision: str) -> Opened:
    core = _openvino()
    model = core.read_model(path)
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = core.compile_model(model, "CPU", settings)

    def run(inputs: Mapping[str, Tensor]) -> list[NDArray[Any]]:
        given = {name: np.ascontiguousarray(value.numpy()) for name, value in inputs.items()}
        return [np.array(found) for found in compiled.create_infer_request().infer(given).values()]

    there = model.rt_info["esc_sr"] if "esc_sr" in model.rt_info else {}
    return Opened(run, {key: str(value.value) for key, value in there.items()})
