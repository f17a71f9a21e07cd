"""What computes a network: torch, the compiled kernels, or a graph of it in another runtime.

auto      native where it is, which is fastest and has float32's numbers; otherwise torch
torch     torch alone, in bands of rows
native    torch and the compiled kernels of `esc_sr.native`, in bands of rows; on CPUs
openvino  a graph of the network through OpenVINO, on the CPU; sees a picture in one piece, or whole tiles
onnx      the same through ONNX Runtime
"""

import platform
from collections.abc import Callable
from pathlib import Path

import torch

from esc_sr import native, weights
from esc_sr.engines.graphs import GraphNetwork, kind_of_graph, open_network
from esc_sr.engines.plain import TorchNetwork
from esc_sr.engines.store import graph_of
from esc_sr.errors import DeviceError, UsageError, WeightsError
from esc_sr.families import describe
from esc_sr.families.contract import Network
from esc_sr.machine.device import pick_device
from esc_sr.machine.precision import check_precision
from esc_sr.runtimes import SUFFIXES, check_runtime

ENGINES = ("auto", "torch", "native", *sorted(SUFFIXES, reverse=True))


def pick_place(device: str, engine: str) -> torch.device:
    """Find the device that a name stands for; "auto" is the CPU for an engine that computes there only.

    Raises:
        UsageError: There is no such device or engine, or the engine does not compute there.
        DeviceError: The device is missing.
    """
    _check(engine)
    if engine in ("auto", "torch"):
        return pick_device(device)
    place = pick_device("cpu" if device == "auto" else device)
    _check_place(engine, place)
    return place


def check_engine(engine: str, precision: str = "fp32") -> None:
    """Refuse an engine that is not here.

    Args:
        engine: One of `ENGINES`.
        precision: Of the arithmetic.

    Raises:
        UsageError: No such engine, it is not installed, or does not compute in this precision.
        DeviceError: There are no kernels, or the processor has not what they or the precision need.
    """
    _check(engine)
    if engine == "native" and not native.available():
        raise DeviceError(f"engine native: kernels are {native.describe()}; take another engine, or auto")
    if engine in SUFFIXES:
        check_runtime(engine, precision)


def warn_of_slowness(device: torch.device, precision: str, tell: Callable[[str], object]) -> None:
    """Tell of a precision that takes longer than fp32 on a device, as far as that was measured."""
    measured = device.type == "cpu" and platform.machine() in ("x86_64", "AMD64")
    if measured and precision in ("bf16", "fp16") and not native.multiplies(precision):
        tell(f"this processor does not multiply {precision}, so that it takes longer than fp32")


def load(
    name_or_path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    scale: int | None = None,
    engine: str = "auto",
    precision: str = "fp32",
    tell: Callable[[str], object] = lambda text: None,
    denoise: float | None = None,
) -> Network:
    """Load a network, ready to use.

    Args:
        name_or_path: A bundled name with or without its scale ("esc-light-x3", "esc-light"), a checkpoint of
            a network of `families.FAMILIES`, with our names or others that it knows, .safetensors or .pth; or
            a graph that `esc-sr export` wrote, .onnx or .xml.
        device: Where to put it; a name as of `pick_device`, "auto" among them.
        dtype: Precision of the parameters, whatever they are stored in.
        scale: Enlargement to have; of a bundled name without a scale, 2 by default, or with `denoise` the
            least that there is.
        engine: What computes it, one of `ENGINES`; of a graph file the runtime is known. Gradients, layers to
            look at and parameters to change are in "auto" and "native" alone.
        precision: Of a graph's arithmetic, fp32 or bf16; that of others is autocast's.
        tell: Is told when a graph has to be made, which takes a minute or two, once.
        denoise: As of `weights.load`.

    Returns:
        The network in evaluation mode, with its sizes in `.config`: (B, 3, H, W) in 0..1 to (B, 3, sH, sW).

    Raises:
        WeightsError: No such weights; or the file is damaged, of another network, or of another scale.
        UsageError: As `check_engine` and `check_precision`, or the engine does not compute on the device, or
            so large numbers; or `denoise` is out of range, or there is no such mixture.
        DeviceError: As `check_engine`, or the device is missing.
    """
    check_precision(precision)
    kind = kind_of_graph(name_or_path)
    place = pick_place(device, kind or engine) if isinstance(device, str) else device
    if denoise is not None:
        weights.files_of(name_or_path, scale, denoise)  # refuses a graph
    if kind:
        if engine not in ("auto", kind):
            raise UsageError(
                f"{name_or_path}: is a graph for {kind}, not for engine {engine}; leave that out"
            )
        _check_place(kind, place)
        check_engine(kind, precision)
        network: Network = open_network(Path(name_or_path), kind, precision)
        if scale is not None and network.config.scale not in (None, scale):
            own = describe(network.config)
            raise WeightsError(f"{name_or_path}: is {own}, not x{scale}; give a graph of that scale")
        return network
    check_engine(engine, precision)
    return equip(weights.load(name_or_path, place, dtype, scale, denoise), engine, precision, tell)


def equip(
    network: Network,
    engine: str = "auto",
    precision: str = "fp32",
    tell: Callable[[str], object] = lambda text: None,
) -> Network:
    """Have a network computed by an engine; arguments and errors as of `load`."""
    if engine == "auto":
        return network
    check_engine(engine, precision)
    parameter = next(network.parameters(), torch.empty(0))
    if engine != "torch":
        _check_place(engine, parameter.device)
    if engine == "native":
        return network
    if engine == "torch":
        return TorchNetwork(network)
    if isinstance(network, GraphNetwork):
        raise UsageError("the network is a graph already; leave the engine out")
    return open_network(graph_of(network, engine, tell), engine, precision)


def _check(engine: str) -> None:
    if engine not in ENGINES:
        raise UsageError(f"no engine is called {engine!r}; there are {', '.join(ENGINES)}")


def _check_place(engine: str, place: torch.device) -> None:
    if place.type != "cpu":
        raise UsageError(f"engine {engine} computes on the CPU, not on {place}; say device cpu")
