"""Parameters and MACs, counted from the shapes of every operation; no pixel is computed (Tables 2 and 3).

The rules are those of fvcore, which the paper uses: convolutions, matrix products and linear layers count one
per multiplication (biases, activations, sums, softmax and shuffles are free); a normalised element counts 5,
an averaged pixel 1, a pixel made by nearest enlargement 1 and by bilinear sampling 4. Self-attention counts
as the naive backend computes it, on features padded to whole windows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from esc_sr import paper
from esc_sr.benchmark.networks import ABLATIONS, OUTPUT, build, input_for
from esc_sr.families.contract import Network
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.esc.blocks import ConvAttn, ConvFFN, LayerNorm2d, WindowAttention, depthwise
from esc_sr.families.esc.network import LargeKernel
from esc_sr.upscaling.runner import Sides

PARTS = ("conv", "attention", "linear", "norm", "pooling", "resampling", "special")


@dataclass(frozen=True)
class Count:
    """Parameters, and the MACs of one run, by part."""

    parameters: int
    parts: dict[str, int]

    @property
    def macs(self) -> int:
        """All MACs."""
        return sum(self.parts.values())

    def adding(self, macs: int) -> "Count":
        """This and some MACs that no operation shows."""
        return replace(self, parts={**self.parts, "special": self.parts["special"] + macs})

    def plus(self, other: "Count", times: int = 1) -> "Count":
        """This and some (or less some) of another."""
        parts = {name: self.parts[name] + times * other.parts[name] for name in PARTS}
        return Count(self.parameters + times * other.parameters, parts)


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
        case "aten.mean" if args[0].ndim == 4 and {axis % 4 for axis in args[1]} == {2, 3}:
            return "pooling", args[0].numel()
        case "aten.upsample_nearest2d":
            return "resampling", out.numel()
        case "aten.grid_sampler_2d":
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
    return found.adding(cost.macs if cost else 0)


def complexity(networks: Iterable[tuple[str, int]], output: Sides) -> Iterator[dict[str, Any]]:
    """Count networks as Table 2 does, beside its figures where it has them.

    Args:
        networks: Names and scales for `networks.build`.
        output: Height and width of the enlarged picture.

    Yields:
        Records: model, scale, input and output (width, height), parameters, macs, parts, and paper: its G
        MACs and K parameters, whether they agree in the digits printed, and what is known of it where not.
    """
    for name, scale in networks:
        found = count_network(build(name, scale), input_for(output, scale), scale)
        yield _record(name, scale, output, found, paper.row(2, name, scale))


def ablations(output: Sides) -> Iterator[dict[str, Any]]:
    """Count the configurations of Table 3, in its order, all x2.

    Yields:
        Records as of `complexity`, with the paper's name as model, preset (the name here, if any), and how:
        "built" and counted, "derived" from counts of parts of ESC, or "not recovered", then without counts.
    """
    lr = input_for(output, 2)
    esc = count_network(build("esc", 2), lr, 2)
    added_up = {
        "Only Self-attentions": lambda: _only_self_attention(lr),
        "w/o LK Share and DK": lambda: _own_kernels(esc, lr, dynamic=False),
        "w/o LK Share": lambda: _own_kernels(esc, lr, dynamic=True),
    }
    built = {"ESC": "esc", **{printed: name for name, (printed, _) in ABLATIONS.items()}}
    for row in paper.rows(3):
        found, how = None, "not recovered"
        if row.method == "ESC":
            found, how = esc, "built"
        elif row.method in built:
            found, how = count_network(build(built[row.method], 2), lr, 2), "built"
        elif row.method in added_up:
            found, how = added_up[row.method](), "derived"
        yield _record(row.method, 2, output, found, row) | {"how": how, "preset": built.get(row.method)}


def _record(
    name: str, scale: int, output: Sides, found: Count | None, printed: paper.Row | None
) -> dict[str, Any]:
    """A row of the document; sizes have the width first, and the paper's figures hold for `OUTPUT` only."""
    record: dict[str, Any] = {
        "model": name,
        "scale": scale,
        "input": input_for(output, scale)[::-1],
        "output": output[::-1],
        "parameters": found.parameters if found else None,
        "macs": found.macs if found else None,
        "parts": found.parts if found else None,
        "paper": None,
    }
    if printed and output == OUTPUT:
        record["paper"] = {"gmacs": printed.gmacs, "kparams": printed.kparams, "agrees": False}
        if found:
            digits = round(found.macs / 1e9, 1), round(found.parameters / 1e3)
            record["paper"]["agrees"] = digits == (printed.gmacs, printed.kparams)
        if not record["paper"]["agrees"] and printed.remark:
            record["paper"]["remark"] = printed.remark
    return record


def _own_kernels(esc: Count, lr: Sides, dynamic: bool) -> Count:
    """ESC with a large kernel in each ConvAttn, and without dynamic kernels unless `dynamic`."""
    config = ESCConfig()
    layers = config.n_blocks * config.n_convattn
    found = esc.plus(count(lambda: None, LargeKernel(config.pdim, config.kernel)), layers - 1)
    if dynamic:
        return found
    convattn = ConvAttn(config.dim, config.pdim).to("meta")
    att = _empty(1, config.pdim, *lr)
    estimate = count(lambda: depthwise(att, convattn.dynamic_kernel(att)), convattn.estimator)
    return found.plus(estimate, -layers)


def _only_self_attention(lr: Sides) -> Count:
    """ESC's blocks without ConvAttn, each with a second pair of ConvFFN and self-attention; no large kernel.

    Deviation: the paper does not describe this network; parameters and MACs are those printed.
    """
    config = ESCConfig(n_convattn=0)
    network = ESC(config)
    found = count_network(network, lr, config.scale)
    attn = WindowAttention(config.dim, config.window, config.heads)
    attn.backend = "naive"
    ffn, norm = ConvFFN(config.dim, config.first_expansion), LayerNorm2d(config.dim)
    pair = nn.Sequential(ffn, norm, attn).to("meta")
    features = _empty(1, config.dim, *lr)
    second = count(lambda: pair(features), pair)
    return found.plus(count(lambda: None, network.large_kernel), -1).plus(second, config.n_blocks)


def _empty(*shape: int) -> Tensor:
    """A tensor without memory."""
    return torch.empty(shape, device="meta")
