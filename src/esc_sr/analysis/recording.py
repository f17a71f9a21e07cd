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
    names = [name for name, _ in network.named_modules() if name]
    some = f"there are {', '.join(names[:5])} and {len(names)} in all"
    if patterns:
        chosen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
        if not chosen:
            raise UsageError(f"no layer is called {' or '.join(patterns)}; {some}")
        return _labelled(network, chosen)
    try:
        return layers_of(network, SelfAttention, ConvAttn)
    except UsageError as error:
        raise UsageError(f"{error}; choose layers by name: {some}") from None


def layers_of(network: Network, *kinds: type[nn.Module]) -> list[Layer]:
    """The layers of some classes, in their order.

    Raises:
        UsageError: There are none.
    """
    names = [name for name, module in network.named_modules() if name and isinstance(module, kinds)]
    if not names:
        words = " nor ".join(kind.__name__ for kind in kinds)
        raise UsageError(f"{describe(network.config)} has no {words}")
    return _labelled(network, names)


def _labelled(network: Network, names: Sequence[str]) -> list[Layer]:
    """The layers of these names; labelled by them, where shorter labels are the same."""
    labels = [_label(name, network.get_submodule(name)) for name in names]
    if len(set(labels)) < len(labels):
        labels = [*names]
    return [Layer(n, label, network.get_submodule(n)) for n, label in zip(names, labels, strict=True)]


def _label(name: str, module: nn.Module) -> str:
    """SA, CA or the last word of a name, with the numbers in it: CA 0.4 of blocks.0.convattns.4."""
    words = name.split(".")
    last = next((word for word in reversed(words) if not word.isdigit()), "")
    kind = "SA" if isinstance(module, SelfAttention) else "CA" if isinstance(module, ConvAttn) else last
    return " ".join([kind, ".".join(word for word in words if word.isdigit())]).strip()


def check_size(network: Network, size: Sequence[int]) -> None:
    """Refuse a picture, height and width in px, that no window of a network fits into.

    Raises:
        UsageError: It is so small.
    """
    least = network.window
    if min(size) < least:
        raise UsageError(
            f"{size[1]} x {size[0]} px are less than a window of the network, which has {least} x {least} px"
        )


def feature_map(y: Any, size: Sequence[int]) -> Tensor | None:
    """What a layer gave for a picture of this height and width, as (B, C, H, W); None if that is no map.

    Maps with the channels last are turned. They are told by their sides, which are those of the picture, or
    larger by what fills up windows.
    """
    if not isinstance(y, Tensor) or y.dim() != 4:
        return None
    return y.movedim(3, 1) if _beyond(y.shape[1:3], size) < _beyond(y.shape[2:], size) else y


def _beyond(sides: Sequence[int], size: Sequence[int]) -> float:
    """By how many px sides are larger than those of a picture; infinitely many where one is smaller."""
    more = [side - least for side, least in zip(sides, size, strict=True)]
    return sum(more) if min(more) >= 0 else float("inf")


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

    Raises:
        UsageError: None of the layers has run.
    """
    seen: list[str] = []

    def show(layer: Layer, inputs: tuple[Any, ...], output: Any) -> None:
        seen.append(layer.name)
        see(layer, inputs, output)

    hooks = [
        layer.module.register_forward_hook(lambda _, inputs, output, layer=layer: show(layer, inputs, output))
        for layer in layers
    ]
    try:
        sr = network.enlarge(lr, network.config.scale or scale)
    finally:
        for hook in hooks:
            hook.remove()
    if layers and not seen:
        raise UsageError(
            f"{layers[0].name} is not called as a module, so nothing is seen of it; choose others"
        )
    return sr
