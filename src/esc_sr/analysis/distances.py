"""What self-attentions prefer: biases by offset, and how far they look on average."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esc_sr.analysis.maps import window_maps
from esc_sr.analysis.recording import Layer, check_size, layers_of, record
from esc_sr.data.pairs import to_network
from esc_sr.errors import UsageError
from esc_sr.families import describe
from esc_sr.families.contract import Network
from esc_sr.figure import new_figure
from esc_sr.network.attention import Compared, SelfAttention

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Looks(NamedTuple):
    """How a self-attention looks at its windows.

    Attributes:
        bias: Mean of what is added for each offset of a key from its query, (heads, 2 w - 1, 2 w - 1), rows
            down and columns right; NaN for offsets that there are not.
        distance: Mean distance between query and key, px, weighted by attention, (heads,).
        even: That distance, if attention were the same for all keys, ().
    """

    bias: NDArray[np.float32]
    distance: NDArray[np.float64]
    even: NDArray[np.float64]


def measure(network: Network, pictures: Iterable[NDArray[np.uint8]], *, scale: int = 4) -> dict[str, Looks]:
    """Look at the self-attentions of a network.

    Args:
        network: One with self-attentions that tell what they compare.
        pictures: LR, (h, w, 3) RGB, 0..255, no smaller than a window; at least one.
        scale: Of a network for any size.

    Returns:
        By layer; distances are means over all windows of all pictures.

    Raises:
        UsageError: There are no such self-attentions, or a picture is smaller than a window.
    """
    layers = attentions(network)
    device = next(network.parameters()).device
    biases: dict[str, NDArray[np.float32]] = {}
    evens: dict[str, NDArray[np.float64]] = {}
    sums: defaultdict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
    counts: defaultdict[str, int] = defaultdict(int)

    def see(layer: Layer, inputs: tuple[Any, ...], output: Any) -> None:
        assert isinstance(layer.module, SelfAttention)
        compared = layer.module.compared(*inputs)
        if layer.label not in biases:
            biases[layer.label] = bias_by_offset(compared)
            evens[layer.label] = _between(compared).mean().cpu().numpy()
        sums[layer.label] = sums[layer.label] + distance_sums(compared)
        counts[layer.label] += len(compared.q)

    for lr in pictures:
        check_size(network, lr.shape[:2])
        record(network, to_network(lr)[None].to(device), layers, see, scale)
    return {
        label: Looks(bias, (sums[label] / counts[label]).numpy(), evens[label])
        for label, bias in biases.items()
    }


def attentions(network: Network) -> list[Layer]:
    """The self-attentions that tell what they compare.

    Raises:
        UsageError: There are none.
    """
    layers = layers_of(network, SelfAttention)
    tells = [layer for layer in layers if _tells(layer.module)]
    if not tells:
        raise UsageError(f"the self-attentions of {describe(network.config)} do not tell what they compare")
    return tells


def _tells(module: nn.Module) -> bool:
    return isinstance(module, SelfAttention) and type(module).compared is not SelfAttention.compared


def bias_by_offset(compared: Compared) -> NDArray[np.float32]:
    """Means of biases over all pairs with one offset, (heads, 2 w - 1, 2 w - 1)."""
    queries, keys = compared.places
    bias = compared.bias
    reach = int(torch.cat((queries, keys)).max())
    side = 2 * reach + 1
    offsets = (keys[None] - queries[:, None] + reach).round().long()  # (n, m, 2)
    index = (offsets[..., 0] * side + offsets[..., 1]).flatten()
    counts = torch.bincount(index, minlength=side**2).double()
    sums = torch.zeros(len(bias), side**2, dtype=torch.float64, device=bias.device)
    sums.index_add_(1, index, bias.detach().double().flatten(1))
    return (sums / counts).view(-1, side, side).float().cpu().numpy()


def distance_sums(compared: Compared) -> Tensor:
    """Mean distance between query and key, by attention, summed over windows: (heads,) in float64."""
    distance = _between(compared).float()
    total = torch.zeros(compared.q.shape[1], dtype=torch.float64)
    for weights in window_maps(compared):
        total += (weights * distance).sum(2).double().mean(1).cpu()
    return total


def _between(compared: Compared) -> Tensor:
    """Distances between queries and keys, (n, m)."""
    queries, keys = (places.double() for places in compared.places)
    return torch.cdist(queries, keys)


def draw(found: Mapping[str, Looks], title: str = "") -> "Figure":
    """Draw the biases of each head of each layer, and the mean distances of all heads."""
    heads = max(len(looks.distance) for looks in found.values())
    figure = new_figure(1.5 * heads + 4, max(1.5 * len(found), 3) + 0.5)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.5 * heads, 4))[0]
    axes = left.subplots(len(found), heads, squeeze=False)
    for row, (label, looks) in zip(axes, found.items(), strict=True):
        for head, one in enumerate(row):
            one.set_xticks([])
            one.set_yticks([])
            if head < len(looks.bias):
                size = max(float(np.nanmax(np.abs(looks.bias[head]))), 1e-12)
                one.imshow(looks.bias[head], cmap="RdBu", vmin=-size, vmax=size)
                one.set_title(f"\N{PLUS-MINUS SIGN}{size:.2g}", fontsize=7)
        row[0].set_ylabel(label, fontsize=8)
    left.suptitle("bias by offset, a column for each head", fontsize="medium")
    plot = right.subplots()
    for place, looks in enumerate(found.values()):
        plot.scatter(
            [place] * len(looks.distance), looks.distance, c=[f"C{n}" for n in range(len(looks.distance))]
        )
        plot.plot([place - 0.3, place + 0.3], [looks.even] * 2, color="grey", linewidth=1)
    plot.set_xticks(range(len(found)), list(found), rotation=90)
    plot.set_ylim(0, 1.08 * max(float(max(looks.even, *looks.distance)) for looks in found.values()))
    plot.set_ylabel("mean distance, px")
    plot.grid(alpha=0.3)
    right.suptitle("how far each head looks; grey: at all keys alike", fontsize="medium")
    if title:
        figure.suptitle(title)
    return figure
