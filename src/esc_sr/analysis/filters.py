"""The kernels of ConvAttns (Sec. 3.3, Eq. 4 and 5): the large one and its spectrum, and the dynamic ones."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esc_sr.analysis.convattn import parts
from esc_sr.analysis.recording import Layer, check_size, layers_of, record
from esc_sr.data.pairs import to_network
from esc_sr.families.contract import Network
from esc_sr.families.esc.blocks import ConvAttn
from esc_sr.families.esc.kernels import LargeKernels
from esc_sr.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FREQUENCIES = 64


class Filters(NamedTuple):
    """The kernels of a network's ConvAttns.

    Attributes:
        layers: Their labels, L.
        large: Large kernels, (K, pdim, pdim, k, k), of output by input channel; K is 1 where they are shared.
        dynamic: Dynamic kernels of each picture, (P, L, pdim, 3, 3); P is 0 where there are none.
    """

    layers: NDArray[np.str_]
    large: NDArray[np.float32]
    dynamic: NDArray[np.float32]


def measure(network: Network, pictures: Iterable[NDArray[np.uint8]], *, scale: int = 4) -> Filters:
    """Look at the kernels that a network convolves pictures with.

    Args:
        network: One with ConvAttns.
        pictures: LR, (h, w, 3) RGB, 0..255, no smaller than a window; at least one.
        scale: Of a network for any size.

    Raises:
        UsageError: There are no ConvAttns, or a picture is smaller than a window.
    """
    layers = layers_of(network, ConvAttn)
    large: list[Tensor] = []
    dynamic: list[list[Tensor]] = []

    def see(layer: Layer, inputs: tuple[Any, ...], output: Any) -> None:
        assert isinstance(layer.module, ConvAttn)
        x, shared = inputs
        if len(dynamic) == 1 and (not large or not shared):
            large.append(full(layer.module.large(shared)).cpu())
        kernels = parts(layer.module, x, shared).dynamic
        if kernels is not None:
            dynamic[-1].append(kernels[0].cpu())

    device = next(network.parameters()).device
    for lr in pictures:
        check_size(network, lr.shape[:2])
        dynamic.append([])
        record(network, to_network(lr)[None].to(device), layers, see, scale)
    told = [torch.stack(each) for each in dynamic if each]
    empty = torch.zeros(0, len(layers), large[0].shape[0], 3, 3)
    return Filters(
        np.array([layer.label for layer in layers]),
        torch.stack(large).numpy(),
        (torch.stack(told) if told else empty).numpy(),
    )


def full(large: LargeKernels) -> Tensor:
    """A large kernel, or the product of its two factors, as (pdim, pdim, k, k)."""
    if len(large) == 1:
        return large[0].detach()
    channel, spatial = (
        large  # (pdim, pdim, 1, 1), (pdim, 1, k, k): first across channels, then each by itself
    )
    return (channel * spatial).detach()


def spectrum(kernels: NDArray[np.float32], side: int = _FREQUENCIES) -> NDArray[np.float64]:
    """What kernels (..., k, k) make of each frequency, root mean square, (side, side), 0 in the middle."""
    power = np.abs(np.fft.fft2(kernels.astype(np.float64), (side, side))) ** 2
    return np.fft.fftshift(np.sqrt(power.reshape(-1, side, side).mean(0)))


def energy(kernels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Where kernels (..., k, k) have their squares, (k, k), in sum 1."""
    squares = (kernels.astype(np.float64) ** 2).reshape(-1, *kernels.shape[-2:]).sum(0)
    return squares / squares.sum()


def variation(dynamic: NDArray[np.float32]) -> NDArray[np.float64]:
    """How much dynamic kernels (P, L, ...) depend on the picture, (L,); 0 where all get the same.

    It is the size of their deviation from their mean, over the size of that.
    """
    flat = dynamic.reshape(*dynamic.shape[:2], -1).astype(np.float64)
    mean = flat.mean(0)
    spread = np.sqrt(((flat - mean) ** 2).sum(2).mean(0))
    return spread / np.maximum(np.linalg.norm(mean, axis=1), 1e-12)


def strength(dynamic: NDArray[np.float32], large: NDArray[np.float32]) -> NDArray[np.float64]:
    """Size of the dynamic kernels of each layer, over that of its large one, (L,); mean over pictures."""
    flat = dynamic.reshape(*dynamic.shape[:2], -1).astype(np.float64)
    sizes = np.linalg.norm(large.reshape(len(large), -1).astype(np.float64), axis=1)
    return np.linalg.norm(flat, axis=2).mean(0) / sizes


def mosaic(kernels: NDArray[np.float32], gap: int = 1) -> NDArray[np.float32]:
    """Kernels (rows, columns, k, k) as one picture, each over the largest of its size; NaN between them."""
    rows, columns, k, _ = kernels.shape
    sizes = np.abs(kernels).max(axis=(2, 3), keepdims=True)
    scaled = np.pad(
        kernels / np.maximum(sizes, 1e-12), ((0, 0),) * 2 + ((0, gap),) * 2, constant_values=np.nan
    )
    picture: NDArray[np.float32] = scaled.transpose(0, 2, 1, 3).reshape(rows * (k + gap), columns * (k + gap))
    return picture[:-gap, :-gap]


def draw(found: Filters, title: str = "") -> "Figure":
    """Draw the first large kernel, where its squares lie, its spectrum, and a picture's dynamic kernels."""
    figure = new_figure(13, 3.8)
    axes = figure.subplots(1, 4, width_ratios=(1, 0.8, 0.8, 1))
    large = found.large[0]
    shared = "shared large kernel" if len(found.large) == 1 else f"large kernel of {found.layers[0]}"
    _mosaic(axes[0], mosaic(large), f"{shared}\noutput by input channel")
    image = axes[1].imshow(energy(found.large), cmap="viridis")
    axes[1].set_title("where its squares lie", fontsize="medium")
    figure.colorbar(image, ax=axes[1], shrink=0.6)
    image = axes[2].imshow(spectrum(found.large), cmap="magma", extent=(-0.5, 0.5, 0.5, -0.5))
    axes[2].set_title("its spectrum, cycles per px", fontsize="medium")
    figure.colorbar(image, ax=axes[2], shrink=0.6)
    if len(found.dynamic):
        _mosaic(axes[3], mosaic(found.dynamic[0]), "dynamic kernels of the first picture\nlayer by channel")
        axes[3].set_yticks(4 * np.arange(len(found.layers)) + 1, found.layers, fontsize=6)
    else:
        axes[3].axis("off")
    figure.suptitle(title)
    return figure


def _mosaic(axes: Any, pixels: NDArray[np.float32], title: str) -> None:
    axes.imshow(pixels, cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize="medium")
    axes.set_xticks([])
    axes.set_yticks([])
