"""What the layers of a network take and give, by forward hooks."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from esc_sr.errors import UsageError
from esc_sr.families import describe
from esc_sr.families.contract import Network
from esc_sr.families.esc.blocks import ConvAttn
from esc_sr.network.attention import SelfAttention


class Layer(NamedTuple):
    """A layer to look at.

    Attributes:
        name: Where it is in the network, such as `blocks.0.attn`.
        label: What figures call it, such as SA 0; no other of those found is called so.
        module: What is there.
    """

    name: str
    label: str
    module: nn.Module


See = Callable[[Layer, tuple[Any, ...], Any], None]
"""Is shown a layer, its inputs and its output."""


def find_layers(network: Network, patterns: Sequence[str] = ()) -> list[Layer]:
    """The layers with these names, in their order; by default all self-attentions and ConvAttns.

    Args:
        network: Where they are looked for.
        patterns: Names, in which * and ? stand for any letters.

    Raises:
        UsageError: There are none.
    """
    modules = {name: module for name, module in network.named_modules() if name}
    some = f"{', '.join([*modules][:5])} and {len(modules)} in all"
    if patterns:
        names = [name for name in modules if any(fnmatchcase(name, pattern) for pattern in patterns)]
        if not names:
            raise UsageError(f"no layer is called {' or '.join(patterns)}; there are {some}")
    else:
        names = [name for name, module in modules.items() if isinstance(module, SelfAttention | ConvAttn)]
        if not names:
            who = describe(network.config)
            raise UsageError(
                f"{who} has neither self-attention nor ConvAttn; choose layers: there are {some}"
            )
    labels = [_label(name, modules[name]) for name in names]
    if len(set(labels)) < len(labels):
        labels = names
    return [Layer(name, label, modules[name]) for name, label in zip(names, labels, strict=True)]


def _label(name: str, module: nn.Module) -> str:
    """SA, CA or the last word of a name, with the numbers in it: CA 0.4 of blocks.0.convattns.4."""
    words = name.split(".")
    last = next((word for word in reversed(words) if not word.isdigit()), "")
    kind = "SA" if isinstance(module, SelfAttention) else "CA" if isinstance(module, ConvAttn) else last
    return " ".join([kind, ".".join(word for word in words if word.isdigit())]).strip()


@torch.no_grad()
def record(network: Network, lr: Tensor, layers: Sequence[Layer], see: See, scale: int = 4) -> Tensor:
    """Enlarge pictures, and show what layers take and give.

    Args:
        network: Runs where its weights are, whole, layer after layer.
        lr: (B, 3, H, W), RGB in 0..1.
        layers: Those to show.
        see: Is shown them, each time that one has run.
        scale: Of a network for any size.

    Returns:
        What the network gives.
    """
    hooks = [
        layer.module.register_forward_hook(lambda _, inputs, output, layer=layer: see(layer, inputs, output))
        for layer in layers
    ]
    try:
        return network.enlarge(lr, network.config.scale or scale)
    finally:
        for hook in hooks:
            hook.remove()
