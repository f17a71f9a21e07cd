"""Local attribution maps (Gu and Dong, CVPR 2021; Sec. 4.2.5, Figure 7): what a patch is made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from esc_sr.analysis.recording import check_size
from esc_sr.bicubic import enlarged, resize
from esc_sr.data.pairs import to_network
from esc_sr.data.pictures import Progress, no_progress
from esc_sr.errors import UsageError, require
from esc_sr.families.contract import Network
from esc_sr.figure import new_figure
from esc_sr.image.sheet import most_different

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 16
"""Of a patch, px of the enlarged picture, as in that paper."""

CUTOUT = 64
"""Of the LR picture around the patch that is looked at, px, as in that paper.

A diffusion index is of all pixels looked at: those of cut-outs of different sizes are not to be compared.
"""

_TINY = 1e-10
_CONTRIBUTING = 0.95


class Patch(NamedTuple):
    """A square of the enlarged picture, px."""

    top: int
    left: int
    side: int = SIDE


@dataclass(frozen=True)
class BlurPath:
    """How the picture becomes sharp on the way that is integrated along; defaults of that paper's code.

    Attributes:
        sigma: Of the Gaussian at the beginning, LR px; it falls to 0 evenly.
        side: Of the Gaussian's window, odd, px.
        steps: Of the sum in place of the integral.
    """

    sigma: float = 1.2
    side: int = 9
    steps: int = 50

    def __post_init__(self) -> None:
        """Refuse what is no path."""
        rules = {
            "sigma": (self.sigma > 0, "above 0"),
            "side": (self.side > 0 and self.side % 2 == 1, "odd, from 1"),
            "steps": (self.steps > 0, "1 or more"),
        }
        require(self, rules)

    def at(self, lr: Tensor, done: float) -> Tensor:
        """The picture (B, C, H, W) at a part of the way, 0 to 1, reflected at its edges."""
        sigma = self.sigma * (1 - done)
        if sigma <= 0:
            return lr
        reach = self.side // 2
        offsets = torch.arange(-reach, reach + 1, dtype=lr.dtype, device=lr.device)
        window = torch.exp(-offsets.square() / (2 * sigma**2))
        window = (window / window.sum()).expand(lr.shape[1], 1, 1, -1)
        padded = F.pad(lr, (reach,) * 4, mode="reflect")
        rows = F.conv2d(padded, window, groups=lr.shape[1])
        return F.conv2d(rows, window.transpose(2, 3), groups=lr.shape[1])


class Attribution(NamedTuple):
    """What each LR pixel adds to the edges in a patch.

    Attributes:
        pixels: (h, w, 3), in sum the difference between the two following, but for the steps' error.
        blurred: Sum of gradient magnitudes in the patch, made from the blurred picture.
        sharp: The same from the picture itself.
        sr: What the network made of it, (H, W, 3) RGB around 0..1.
    """

    pixels: NDArray[np.float32]
    blurred: float
    sharp: float
    sr: NDArray[np.float32]

    @property
    def map(self) -> NDArray[np.float64]:
        """The size of each pixel's attribution, (h, w), over all colours."""
        return np.abs(self.pixels.sum(2, dtype=np.float64))

    @property
    def error(self) -> float:
        """How much the sum misses the difference, as a part of the larger of the two ends."""
        missed = float(self.pixels.sum(dtype=np.float64)) - (self.sharp - self.blurred)
        return abs(missed) / max(self.sharp, self.blurred, _TINY)


def gini(values: NDArray[Any]) -> float:
    """Gini coefficient of numbers from 0: 0 where all are equal, 1 - 1/n where all but one are 0."""
    ranked = np.sort(np.asarray(values, np.float64), axis=None)
    n, total = len(ranked), ranked.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ ranked / (n * total)) if total else 0.0


def diffusion_index(attributions: NDArray[Any]) -> float:
    """(1 - Gini) 100: the larger, the more pixels of a map (h, w) are involved; 100 for all alike."""
    return (1 - gini(attributions)) * 100


def contributing(attributions: NDArray[Any], share: float = _CONTRIBUTING) -> NDArray[np.bool_]:
    """The area of contribution: the fewest pixels that hold a share of all attributions, (h, w)."""
    ranked = np.sort(attributions, axis=None)[::-1]
    held = ranked.cumsum()
    least = ranked[min(int(np.searchsorted(held, share * held[-1])), len(ranked) - 1)]
    return np.asarray((attributions >= least) & (attributions > 0))


def edges(sr: Tensor, patch: Patch) -> Tensor:
    """The sum of the sizes of gradients, forward differences, in a patch of (1, C, H, W), to explain."""
    inside = sr[..., patch.top : patch.top + patch.side + 1, patch.left : patch.left + patch.side + 1]
    corner = inside[..., :-1, :-1]
    down, right = inside[..., 1:, :-1] - corner, inside[..., :-1, 1:] - corner
    return (down.square() + right.square() + _TINY).sqrt().sum()


def measure(
    network: Network,
    lr: NDArray[np.uint8],
    patch: Patch,
    *,
    scale: int = 4,
    path: BlurPath = BlurPath(),
    progress: Progress = no_progress,
) -> Attribution:
    """Attribute the edges of a patch to the pixels of LR, by gradients along a path from blurred to sharp.

    Each step takes the gradient in its middle times the change of the picture over it, one step at a time, so
    memory is that of one gradient whatever the number of steps. Deviation: that paper's code takes the
    gradient at the end of each step.

    Args:
        network: At most as large as its gradient fits into memory with; its weights are left alone.
        lr: (h, w, 3) RGB, 0..255.
        patch: Inside the enlarged picture.
        scale: Of a network for any size.
        path: From blurred to sharp.
        progress: Called with steps done and all steps.

    Raises:
        UsageError: The patch is not inside the picture, or that is smaller than a window or the blur's reach.
    """
    scale = network.config.scale or scale
    check_size(network, lr.shape[:2])
    check_patch(patch, enlarged(lr.shape[:2], scale))
    if min(lr.shape[:2]) <= path.side // 2:
        raise UsageError(
            f"a picture of {lr.shape[1]} x {lr.shape[0]} px is too small for a blur of {path.side} px"
        )
    weight = next(network.parameters())
    x = to_network(lr)[None].to(weight)
    total = torch.zeros_like(x)
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.requires_grad_(False)
    try:
        for step in range(path.steps):
            progress(step, path.steps)
            middle = path.at(x, (step + 0.5) / path.steps).requires_grad_()
            (gradient,) = torch.autograd.grad(edges(network.enlarge(middle, scale), patch), middle)
            total += gradient * (path.at(x, (step + 1) / path.steps) - path.at(x, step / path.steps))
    finally:
        for parameter in learning:
            parameter.requires_grad_()
    progress(path.steps, path.steps)
    with torch.no_grad():
        blurred, sr = network.enlarge(path.at(x, 0), scale), network.enlarge(x, scale)
    numbers = total[0].permute(1, 2, 0).float().cpu().numpy()
    return Attribution(
        numbers,
        float(edges(blurred, patch)),
        float(edges(sr, patch)),
        sr[0].permute(1, 2, 0).float().cpu().numpy(),
    )


def check_patch(patch: Patch, size: Sequence[int]) -> None:
    """Refuse a patch that is not inside a picture of this height and width, with the pixel after it.

    Raises:
        UsageError: It is not.
    """
    top, left, side = patch
    height, width = size
    if side < 1 or min(top, left) < 0 or top + side >= height or left + side >= width:
        raise UsageError(
            f"a patch of {side} x {side} px at {left},{top} (from left and top) is not inside the enlarged "
            f"picture of {width} x {height} px and off its right and lower edge"
        )


def differing_patch(pictures: Sequence[NDArray[np.uint8]], side: int = SIDE) -> Patch:
    """Where enlarged pictures (H, W, 3) differ most; one alone is of no use."""
    return Patch(*most_different([picture[:-1, :-1] for picture in pictures], side), side)


def cut_around(
    lr: NDArray[np.uint8], patch: Patch, scale: int, side: int = CUTOUT, multiple: int = 1
) -> tuple[NDArray[np.uint8], Patch]:
    """Cut the part of LR around a patch out of a large picture.

    Args:
        lr: (h, w, 3).
        patch: Of the enlarged picture.
        scale: Enlargement.
        side: Of the cut-out, px, with the patch in its middle, or as near as it can be.
        multiple: What its top and left are multiples of, so that windows lie as in the picture; at the right
            and lower edge it may be larger by less than this.

    Returns:
        The cut-out, and the patch in it.
    """
    spans = []
    for first, length in zip(patch[:2], lr.shape[:2], strict=True):
        wished = (first + patch.side // 2) // scale - side // 2
        start, end = max((wished + multiple // 2) // multiple * multiple, 0), length
        if start + side < length:
            end = start + side
        else:
            start = max(length - side, 0) // multiple * multiple
        spans.append(slice(start, end))
    top, left = (span.start * scale for span in spans)
    return lr[spans[0], spans[1]], Patch(patch.top - top, patch.left - left, patch.side)


def smoothed(attributions: NDArray[Any], sigma: float = 2.0) -> NDArray[np.float32]:
    """Attributions (h, w) spread by a Gaussian, as dense as they lie, largest 1."""
    flat = torch.from_numpy(np.asarray(attributions, np.float32))[None, None]
    reach = min(int(4 * sigma), min(flat.shape[2:]) - 1)
    spread: NDArray[np.float32] = BlurPath(sigma, 2 * reach + 1).at(flat, 0)[0, 0].numpy()
    return spread / max(float(spread.max()), _TINY)


def draw(
    lr: NDArray[np.uint8],
    patch: Patch,
    found: dict[str, Attribution],
    scale: int,
    hr: NDArray[np.uint8] | None = None,
) -> "Figure":
    """Draw the maps of several networks side by side, as Figure 7.

    Args:
        lr: What they were measured on.
        patch: Likewise.
        found: Attributions by the networks' names.
        scale: Enlargement.
        hr: The original, (scale h, scale w, 3); in its place the enlarged LR is shown.
    """
    columns = 1 + len(found)
    figure = new_figure(2.2 * columns, 6.9)
    axes = figure.subplots(3, columns)
    whole = resize(lr, enlarged(lr.shape[:2], scale)) if hr is None else hr
    _show(axes[0][0], whole, "HR" if hr is not None else "LR, bicubic")
    _frame(axes[0][0], patch)
    _show(axes[1][0], _zoomed(whole, patch), "the patch")
    _show(axes[2][0], lr, "LR")
    _frame(axes[2][0], Patch(*(number // scale for number in patch)))
    for column, (name, one) in enumerate(found.items(), 1):
        sizes = one.map / max(float(one.map.max()), _TINY)
        area = contributing(one.map)
        axes[0][column].imshow(sizes**0.5, cmap="Reds", vmin=0, vmax=1)
        axes[0][column].set_title(f"{name}\nDI {diffusion_index(one.map):.2f}", fontsize="medium")
        _show(axes[1][column], _zoomed(_rounded(one.sr), patch), "")
        axes[2][column].imshow(lr)
        axes[2][column].imshow(smoothed(one.map), cmap="jet", alpha=0.55)
        axes[2][column].set_title(f"{100 * area.mean():.1f} % of LR", fontsize="medium")
        axes[2][column].contour(smoothed(area), levels=[0.25], colors="white", linewidths=0.7)
    for one_axes in axes.flat:
        one_axes.set_xticks([])
        one_axes.set_yticks([])
    return figure


def _rounded(sr: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(np.rint(sr * 255), 0, 255).astype(np.uint8)


def _show(axes: Any, pixels: NDArray[np.uint8], title: str) -> None:
    axes.imshow(pixels, interpolation="nearest")
    axes.set_title(title, fontsize="medium")


def _zoomed(pixels: NDArray[np.uint8], patch: Patch) -> NDArray[np.uint8]:
    """The patch with as much around it, as far as there is."""
    top, left = (max(start - patch.side // 2, 0) for start in patch[:2])
    return pixels[top : top + 2 * patch.side, left : left + 2 * patch.side]


def _frame(axes: Any, patch: Patch) -> None:
    """A red frame around a patch."""
    left, top, side = patch.left - 0.5, patch.top - 0.5, patch.side
    right, bottom = left + side, top + side
    axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color="red", linewidth=1.2)
