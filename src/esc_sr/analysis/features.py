"""What layers make of a picture, averaged over channels (Sec. 4.2.4, Figure 6)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from esc_sr.analysis.convattn import parts
from esc_sr.analysis.recording import Layer, check_size, feature_map, find_layers, layers_of, record
from esc_sr.data.pairs import to_network
from esc_sr.errors import UsageError
from esc_sr.families.contract import Network
from esc_sr.families.esc.blocks import ConvAttn
from esc_sr.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IDT, LARGE, BOTH, OUTPUT = "F_idt", "large kernel", "large + dynamic", "output"
ALL = "mean"
_BESIDE = 3

Means = Mapping[str, NDArray[np.float32]]
"""Averages over channels, (H, W), by what they are of."""


def measure(
    network: Network, lr: NDArray[np.uint8], *, patterns: Sequence[str] = (), scale: int = 4
) -> dict[str, Means]:
    """Average the features of each layer over their channels.

    Args:
        network: Any.
        lr: (h, w, 3) RGB, 0..255, no smaller than a window.
        patterns: Which layers, as of `find_layers`; by default the ConvAttns.
        scale: Of a network for any size.

    Returns:
        By layer: of ConvAttns F_idt, what the large kernel makes, and what both kernels make; of others their
        output. Where there are several ConvAttns, the first entry is the mean over these.

    Raises:
        UsageError: There are no such layers, one gives no map, or the picture is smaller than a window.
    """
    check_size(network, lr.shape[:2])
    layers = find_layers(network, patterns) if patterns else layers_of(network, ConvAttn)
    found: dict[str, Means] = {}

    def see(layer: Layer, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(layer.module, ConvAttn):
            inside = parts(layer.module, *inputs)
            found[layer.label] = {
                IDT: _mean(inside.idt),
                LARGE: _mean(inside.large),
                BOTH: _mean(inside.both),
            }
        elif (features := feature_map(output, lr.shape[:2])) is not None:
            found[layer.label] = {OUTPUT: _mean(features)}
        else:
            raise UsageError(f"{layer.name} gives no map of features; choose other layers")

    device = next(network.parameters()).device
    record(network, to_network(lr)[None].to(device), layers, see, scale)
    convattns = [means for means in found.values() if BOTH in means]
    if len(convattns) < 2:
        return found
    means = {name: np.mean([each[name] for each in convattns], axis=0) for name in (IDT, LARGE, BOTH)}
    return {ALL: means, **found}


def _mean(features: Tensor) -> NDArray[np.float32]:
    """Mean over the channels of (1, C, H, W); zeros where there are none."""
    if not features.shape[1]:
        return np.zeros(features.shape[2:], np.float32)
    return features[0].mean(0).float().cpu().numpy()


def draw(found: Mapping[str, Means], title: str = "") -> "Figure":
    """Draw all averages in a grid, those of a layer beside each other, each over its own range of values."""
    width = max(len(means) for means in found.values())
    beside = min(_BESIDE, len(found))
    rows = -(-len(found) // beside)
    height, across = next(iter(next(iter(found.values())).values())).shape
    cell = 1.5
    figure = new_figure(cell * width * beside, (cell * height / across + 0.3) * rows + 0.5)
    axes = figure.subplots(rows, width * beside, squeeze=False)
    for one in axes.flat:
        one.axis("off")
    for number, (label, means) in enumerate(found.items()):
        row, column = divmod(number, beside)
        for place, (name, mean) in enumerate(means.items()):
            one = axes[row][column * width + place]
            low, high = np.percentile(mean, (1, 99))
            one.imshow(mean, cmap="gray", vmin=low, vmax=max(high, low + 1e-12))
            one.set_title(f"{label}\n{name}", fontsize=7)
    figure.suptitle(title, fontsize="medium")
    return figure
