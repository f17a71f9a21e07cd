"""Results side by side, in a layout fit for a paper (Figures 5, 8 and 9)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esc_sr.errors import UsageError
from esc_sr.evaluate.run import Method
from esc_sr.evaluate.scores import Pixels, score
from esc_sr.figure import new_figure
from esc_sr.image.sheet import most_different, repeated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 7.0
_WHOLE = 1.6
_COLOURS = ("red", "deepskyblue", "gold", "lime", "magenta")


class Cut(NamedTuple):
    """A rectangle of the enlarged picture, px."""

    top: int
    left: int
    height: int
    width: int


class Shown(NamedTuple):
    """What a method made of a picture.

    Attributes:
        pixels: (H, W, 3) RGB, 0..255.
        psnr: Against the original by the method's protocol, dB; None without an original.
        ssim: Likewise.
    """

    pixels: NDArray[np.uint8]
    psnr: float | None = None
    ssim: float | None = None


class Subject(NamedTuple):
    """A picture that methods are compared on.

    Attributes:
        name: What it is called.
        lr: (h, w, 3) RGB, 0..255.
        hr: The original, (scale h, scale w, 3); None without.
        results: Of each method, by name, in the order of the sheet.
        cuts: What is shown enlarged.
    """

    name: str
    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8] | None
    results: Mapping[str, Shown]
    cuts: Sequence[Cut]


def measure(method: Method, lr: NDArray[np.uint8], hr: NDArray[np.uint8] | None, scale: int) -> Shown:
    """Enlarge a picture and, if there is an original, measure the result as `esc-sr evaluate` does.

    Args:
        method: As of `evaluate.run.find_methods`.
        lr: (h, w, 3) RGB, 0..255.
        hr: (scale h, scale w, 3).
        scale: Enlargement.
    """
    pixels = method(lr, scale)
    psnr, ssim = (None, None) if hr is None else score(pixels, hr, scale, method.protocol)
    return Shown(_rounded(pixels), psnr, ssim)


def _rounded(pixels: Pixels) -> NDArray[np.uint8]:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def differing_cut(pictures: Sequence[NDArray[np.uint8]], side: int) -> Cut:
    """The square where pictures (H, W, 3) differ most, as large as they allow."""
    height, width = (min(side, length) for length in pictures[0].shape[:2])
    return Cut(*most_different(pictures, side), height, width)


def check_cut(cut: Cut, size: Sequence[int]) -> None:
    """Refuse what is not inside a picture of this height and width.

    Raises:
        UsageError: It is not.
    """
    top, left, height, width = cut
    if min(top, left) < 0 or min(height, width) < 1 or top + height > size[0] or left + width > size[1]:
        raise UsageError(
            f"a crop of {width} x {height} px at {left},{top} (from left and top) is not inside the enlarged "
            f"picture of {size[1]} x {size[0]} px"
        )


def draw(subjects: Sequence[Subject], scale: int) -> "Figure":
    """Draw the whole pictures with frames in them and, beside each, its cuts as every method has them.

    Under each is its name, and PSNR and SSIM of the whole picture, the best in bold.
    """
    count = max(len(_panels(subject, subject.cuts[0], scale)) for subject in subjects)
    beside = -(-count // 2) if count > 3 else count
    lines = -(-count // beside)
    cell = _WIDTH / (beside + _WHOLE)
    heights = []
    for subject in subjects:
        tall, wide = subject.lr.shape[:2]
        right = sum(lines * (cell * cut.height / cut.width + 0.35) for cut in subject.cuts)
        heights.append(max(right, _WHOLE * cell * tall / wide + 0.2))
    figure = new_figure(_WIDTH, sum(heights))
    widths = (_WHOLE, beside)
    parts = figure.subfigures(len(subjects), 2, squeeze=False, width_ratios=widths, height_ratios=heights)
    for subject, (left, right) in zip(subjects, parts, strict=True):
        _draw_whole(left.subplots(), subject)
        axes = right.subplots(lines * len(subject.cuts), beside, squeeze=False)
        for one in axes.flat:
            one.axis("off")
        for number, cut in enumerate(subject.cuts):
            panels = _panels(subject, cut, scale)
            for one, panel in zip(axes[number * lines : (number + 1) * lines].flat, panels, strict=False):
                _draw_panel(one, *panel, _COLOURS[number % len(_COLOURS)])
    return figure


def _panels(subject: Subject, cut: Cut, scale: int) -> list[tuple[NDArray[np.uint8], str, bool]]:
    """Pixels, words under them, and whether they are the best, of LR, all methods and HR."""
    part = np.s_[cut.top : cut.top + cut.height, cut.left : cut.left + cut.width]
    best = max((shown.psnr for shown in subject.results.values() if shown.psnr is not None), default=None)
    panels = [(repeated(subject.lr, scale)[part], "LR\nPSNR / SSIM" if best is not None else "LR", False)]
    for name, shown in subject.results.items():
        scores = "" if shown.psnr is None else f"\n{shown.psnr:.2f} / {shown.ssim:.4f}"
        panels.append((shown.pixels[part], name + scores, shown.psnr is not None and shown.psnr == best))
    if subject.hr is not None:
        panels.append((subject.hr[part], "HR\n", False))
    return panels


def _draw_whole(axes: Any, subject: Subject) -> None:
    """Draw a whole picture, with frames around its cuts."""
    last = [*subject.results.values()][-1].pixels
    height, width = subject.lr.shape[:2]
    words = f"{subject.name}\nLR {width} x {height} px"
    _draw_panel(axes, last if subject.hr is None else subject.hr, words, False, "none")
    for number, (top, left, height, width) in enumerate(subject.cuts):
        right, bottom = left + width, top + height
        xs, ys = [left, right, right, left, left], [top, top, bottom, bottom, top]
        axes.plot(xs, ys, color=_COLOURS[number % len(_COLOURS)], linewidth=1)


def _draw_panel(axes: Any, pixels: NDArray[np.uint8], words: str, bold: bool, colour: str) -> None:
    """Draw a picture in a frame, with words under it."""
    axes.axis("on")
    axes.imshow(pixels, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(words, fontsize=6, fontweight="bold" if bold else "normal", labelpad=2)
    for spine in axes.spines.values():
        spine.set_color(colour)
