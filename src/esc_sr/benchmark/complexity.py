"""Parameters and MACs, counted from the shapes of every operation; no pixel is computed (Tables 2 and 3).

The rules are those of fvcore, which the paper uses: convolutions, matrix products and linear layers count one
per multiplication (biases, activations, sums, softmax and shuffles are free); a normalised element counts 5,
or 2 where the statistics are known, an averaged pixel 1, a pixel made by nearest enlargement 1, by bilinear
sampling 4. Self-attention counts as the naive backend computes it, on features padded to whole windows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from esc_sr import paper
from esc_sr.benchmark.networks import OUTPUT, blank, input_for
from esc_sr.families.contract import Network
from esc_sr.upscaling.runner import Sides

PARTS = ("conv", "attention", "linear", "norm", "pooling", "resampling", "scan")


@dataclass(frozen=True)
class Count:
    """Parameters, and the MACs of one run, by part."""

    parameters: int
    parts: dict[str, int]

    @property
    def macs(self) -> int:
        """All MACs."""
        return sum(self.parts.values())

    def adding(self, macs: Mapping[str, int]) -> "Count":
        """This and, by part, MACs that no operation shows."""
        return replace(self, parts={part: found + macs.get(part, 0) for part, found in self.parts.items()})


def _macs(operation: str, args: tuple[Any, ...], out: Any) -> tuple[str, int]:
    """The part that an operation belongs to, and its MACs."""
    match operation:
        case "aten.convolution":
            return "conv", out.numel() * args[1][0].numel()
        case "aten.bmm":
            return "attention", args[0].numel() * args[1].shape[-1]
        case "aten.mm":
            return "linear", args[0].numel() * args[1].shape[-1]
        case "aten.addmm":
            return "linear", args[1].numel() * args[2].shape[-1]
        case "aten.native_layer_norm":
            return "norm", 5 * args[0].numel()
        case "aten.native_batch_norm":
            learns = args[5]
            return "norm", (5 if learns else 2) * args[0].numel()
        case "aten.mean" if args[0].ndim == 4 and {axis % 4 for axis in args[1]} == {2, 3}:
            return "pooling", args[0].numel()
        case "aten.upsample_nearest2d":
            return "resampling", out.numel()
        case "aten.grid_sampler_2d" | "aten.upsample_bilinear2d":
            return "resampling", 4 * out.numel()
    return "conv", 0


class _Counter(TorchDispatchMode):
    """Adds up the MACs of whatever runs inside."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: Counter[str] = Counter(dict.fromkeys(PARTS, 0))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        part, macs = _macs(str(func.overloadpacket), args, out)
        self.parts[part] += macs
        return out


def count(run: Callable[[], object], *modules: nn.Module) -> Count:
    """Count the MACs of a run, and the parameters of some modules, all on the device "meta"."""
    with _Counter() as counter:
        run()
    return Count(sum(p.numel() for m in modules for p in m.parameters()), dict(counter.parts))


def count_network(network: Network, lr: Sides, scale: int) -> Count:
    """Count a network for an LR picture.

    Args:
        network: It is moved to the device "meta", losing its weights.
        lr: Height and width of the picture.
        scale: Enlargement, which is the network's own unless it gives any size.
    """
    network.to("meta")
    network.attention = "naive"
    picture = _empty(1, 3, *lr)
    found = count(lambda: network.enlarge(picture, scale), network)
    cost = network.cost(*lr, rows=lr[0])
    return found.adding(cost.macs if cost else {})


def complexity(networks: Iterable[tuple[str, int]], output: Sides) -> Iterator[dict[str, Any]]:
    """Count networks as Table 2 does, beside its figures, or those of Table 3, where it has them.

    Args:
        networks: Names and scales for `networks.blank`.
        output: Height and width of the enlarged picture.

    Yields:
        Records: model, scale, input and output (width, height), and what `costs` tells.
    """
    for name, scale in networks:
        yield _record(name, scale, output)


def ablations(output: Sides) -> Iterator[dict[str, Any]]:
    """Count the networks of Table 3, in its order, all x2.

    Yields:
        Records as of `complexity`, with the paper's name as model, and preset: the name here.
    """
    names = {method: name for name, method in paper.METHODS.items()}
    for row in paper.rows(3):
        name = names[row.method]
        yield _record(name, 2, output) | {"model": row.method, "preset": name}


def _record(name: str, scale: int, output: Sides) -> dict[str, Any]:
    """A row of the document; sizes have the width first."""
    lr = input_for(output, scale)
    return {
        "model": name,
        "scale": scale,
        "input": lr[::-1],
        "output": output[::-1],
        **costs(name, scale, lr),
    }


def costs(name: str, scale: int, lr: Sides) -> dict[str, Any]:
    """Count a network, beside the figures of Table 2, or of Table 3, where it has them.

    Args:
        name: As of `networks.blank`.
        scale: Likewise.
        lr: Height and width of the LR picture.

    Returns:
        parameters, macs, parts, and paper: its latency_ms, memory_mib, gmacs and kparams, whether the latter
        two agree in the digits printed, and what is known of it where not; None where it has none, as for
        other outputs than `OUTPUT`.
    """
    found = count_network(blank(name, scale), lr, scale)
    record: dict[str, Any] = {"parameters": found.parameters, "macs": found.macs, "parts": found.parts}
    printed = paper.row(2, name, scale) or paper.row(3, name, scale)
    if printed is None or lr != input_for(OUTPUT, scale):
        return record | {"paper": None}
    digits = round(found.macs / 1e9, 1), round(found.parameters / 1e3)
    figures: dict[str, Any] = {
        "latency_ms": printed.latency_ms,
        "memory_mib": printed.memory_mib,
        "gmacs": printed.gmacs,
        "kparams": printed.kparams,
        "agrees": digits == (printed.gmacs, printed.kparams),
    }
    if not figures["agrees"] and printed.remark:
        figures["remark"] = printed.remark
    return record | {"paper": figures}


def _empty(*shape: int) -> Tensor:
    """A tensor without memory."""
    return torch.empty(shape, device="meta")
