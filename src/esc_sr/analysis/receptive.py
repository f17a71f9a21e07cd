"""How far a network sees: the effective receptive field (Luo et al., NeurIPS 2016)."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from esc_sr.analysis.recording import check_size
from esc_sr.data.pairs import to_network
from esc_sr.errors import UsageError
from esc_sr.families.contract import Network
from esc_sr.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = (0.5, 0.95, 0.99)


def measure(
    network: Network, pictures: Iterable[NDArray[np.uint8]], *, side: int = 96, scale: int = 4
) -> NDArray[np.float64]:
    """Average the size of the gradient of the middle of the result, by LR pixels.

    Args:
        network: Any.
        pictures: LR, (h, w, 3) RGB, 0..255, of which the middle is cut out, on whole windows; at least one.
        side: Of the cut-out, px; three windows of the network have the middle in the middle of one.
        scale: Of a network for any size.

    Returns:
        (side, side), in sum 1: what the pixel at (side // 2, side // 2), enlarged, depends on.

    Raises:
        UsageError: A picture is smaller than the cut-out, or that than a window.
    """
    scale = network.config.scale or scale
    weight = next(network.parameters())
    total, count = np.zeros((side, side)), 0
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.requires_grad_(False)
    try:
        for lr in pictures:
            check_size(network, (side, side))
            x = to_network(_middle(lr, side, network.window))[None].to(weight).requires_grad_()
            first = scale * (side // 2)
            seen = network.enlarge(x, scale)[..., first : first + scale, first : first + scale]
            (gradient,) = torch.autograd.grad(seen.sum(), x)
            total += gradient[0].double().abs().sum(0).cpu().numpy()
            count += 1
    finally:
        for parameter in learning:
            parameter.requires_grad_()
    if not count or not total.sum():
        raise UsageError("nothing is seen: no picture, or a network whose result depends on nothing")
    return total / total.sum()


def _middle(lr: NDArray[np.uint8], side: int, multiple: int) -> NDArray[np.uint8]:
    """Cut out the middle, (side, side, 3), beginning at multiples of so many px."""
    if min(lr.shape[:2]) < side:
        raise UsageError(
            f"{lr.shape[1]} x {lr.shape[0]} px are less than the {side} x {side} looked at; choose "
            "a smaller side"
        )
    top, left = ((length - side) // 2 // multiple * multiple for length in lr.shape[:2])
    return lr[top : top + side, left : left + side]


def rings(field: NDArray[np.float64]) -> NDArray[np.float64]:
    """What lies within each distance from the middle, from 0 on: sums over squares of 1, 3, 5, ... px."""
    side = len(field)
    away = np.abs(np.arange(side) - side // 2)
    distance = np.maximum(away[:, None], away)
    return np.bincount(distance.ravel(), field.ravel()).cumsum()


def width_of(field: NDArray[np.float64], share: float) -> int:
    """Side of the smallest square around the middle that holds a share of a field, px."""
    return 2 * int(np.searchsorted(rings(field), share * (1 - 1e-12))) + 1


def extent(field: NDArray[np.float64]) -> int:
    """Side of the square around the middle outside of which nothing is seen at all, px."""
    inside = rings(field)
    return 2 * int(np.searchsorted(inside, inside[-1])) + 1


def draw(found: Mapping[str, NDArray[np.float64]]) -> "Figure":
    """Draw fields of several networks, on a logarithmic scale, and what lies within which distance."""
    figure = new_figure(3 * len(found) + 4, 3.4)
    axes = figure.subplots(1, len(found) + 1)
    image = None
    for one, (name, field) in zip(axes, found.items(), strict=False):
        image = one.imshow(np.log10(np.maximum(field, 1e-8)), cmap="magma", vmin=-8, vmax=-1)
        widths = " ".join(f"{width_of(field, share)}" for share in SHARES)
        one.set_title(f"{name}\n50, 95, 99 % in {widths} px", fontsize="medium")
        one.set_xticks([])
        one.set_yticks([])
    if image is not None:
        figure.colorbar(image, ax=axes[: len(found)].tolist(), shrink=0.7, label="log10 of the share")
    for name, field in found.items():
        inside = rings(field)
        axes[-1].plot(2 * np.arange(len(inside)) + 1, 100 * inside, label=name)
    axes[-1].set_xlabel("side of the square, LR px")
    axes[-1].set_ylabel("of the gradient, %")
    axes[-1].grid(alpha=0.3)
    axes[-1].legend()
    return figure
