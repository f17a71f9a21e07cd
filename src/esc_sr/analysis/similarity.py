"""How alike layers are: linear CKA (Kornblith et al., ICML 2019) and cosine (Sec. 3.1, Figures 2 and 6)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esc_sr.analysis.convattn import parts
from esc_sr.analysis.maps import mean_map
from esc_sr.analysis.recording import Layer, check_size, feature_map, find_layers, record
from esc_sr.data.pairs import to_network
from esc_sr.errors import UsageError
from esc_sr.families.contract import Network
from esc_sr.families.esc.blocks import ConvAttn
from esc_sr.figure import new_figure
from esc_sr.network.attention import SelfAttention

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS = 2**16
"""Pixels of a picture that are compared, at most; others are left out at random, the same in all layers."""

FEATURES = "added to the skip path"
LARGE, BOTH = "large kernel alone", "large and dynamic kernel"
MAPS = "attention maps"
_PART = 8192


class Similarity(NamedTuple):
    """How alike layers are, pair by pair; 1 is the same.

    Attributes:
        layers: Their labels.
        cka: Linear CKA, (L, L).
        cosine: Cosine, (L, L); NaN where layers have different numbers of channels.
    """

    layers: tuple[str, ...]
    cka: NDArray[np.float64]
    cosine: NDArray[np.float64]

    def mean(self, name: str) -> float:
        """The mean of "cka" or "cosine" over all pairs of different layers; NaN of a single one."""
        matrix: NDArray[np.float64] = getattr(self, name)
        others = matrix[~np.eye(len(matrix), dtype=bool)]
        return float(np.nanmean(others)) if np.isfinite(others).any() else float("nan")


class Moments:
    """Sums and products of the features of several layers, from which both similarities follow exactly.

    Features come in parts of any size, and no part is kept: memory is that of the products, (C, C) for C
    channels of all layers together.
    """

    def __init__(self) -> None:
        self._widths: list[int] = []
        self._count = 0
        self._sum = torch.zeros(0)
        self._products = torch.zeros(0, 0)

    def add(self, features: Sequence[Tensor]) -> None:
        """Add a part of each layer, (n, C) with the same n examples and a C of its own."""
        if not self._widths:
            self._widths = [x.shape[1] for x in features]
            self._sum = torch.zeros(sum(self._widths), dtype=torch.float64)
            self._products = torch.zeros(len(self._sum), len(self._sum), dtype=torch.float64)
        for first in range(0, len(features[0]), _PART):
            z = torch.cat([x[first : first + _PART].double().cpu() for x in features], 1)
            self._count += len(z)
            self._sum += z.sum(0)
            self._products.addmm_(z.T, z)

    def cka(self) -> NDArray[np.float64]:
        """Linear CKA of each pair, (L, L): |X^T Y|^2 / (|X^T X| |Y^T Y|), of centred features."""
        centred = (self._products - torch.outer(self._sum, self._sum) / self._count).numpy()
        starts = np.cumsum([0, *self._widths[:-1]])
        return _normalised(np.add.reduceat(np.add.reduceat(centred**2, starts, 0), starts, 1))

    def cosine(self) -> NDArray[np.float64]:
        """Cosine of each pair of layers, all features of one being one vector, (L, L)."""
        blocks = [list(row.split(self._widths, 1)) for row in self._products.split(self._widths)]
        equal = [[block.shape[0] == block.shape[1] for block in row] for row in blocks]
        traces = [[float(block.trace()) for block in row] for row in blocks]
        return np.where(equal, _normalised(np.array(traces)), np.nan)


class MapMoments:
    """Both similarities of attention maps, (n, m) of each layer, added up picture by picture.

    The rows of a map are its examples; sums are over the pictures, of what CKA and cosine are quotients of.
    """

    def __init__(self) -> None:
        self._hsic: NDArray[np.float64] | None = None
        self._inner: NDArray[np.float64] | None = None

    def add(self, maps: Sequence[Tensor]) -> None:
        """Add the maps of a picture, one of each layer, all of one size."""
        flat = torch.stack([x.double().flatten() for x in maps]).numpy()
        centred = [x.double() - x.double().mean(0) for x in maps]
        grams = torch.stack([(x @ x.T).flatten() for x in centred]).numpy()
        hsic, inner = grams @ grams.T, flat @ flat.T
        self._hsic = hsic if self._hsic is None else self._hsic + hsic
        self._inner = inner if self._inner is None else self._inner + inner

    def cka(self) -> NDArray[np.float64]:
        """As `Moments.cka`."""
        assert self._hsic is not None
        return _normalised(self._hsic)

    def cosine(self) -> NDArray[np.float64]:
        """As `Moments.cosine`."""
        assert self._inner is not None
        return _normalised(self._inner)


def _normalised(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products to cosines; NaN where something is zero."""
    norms = np.sqrt(products.diagonal())
    with np.errstate(divide="ignore", invalid="ignore"):
        return products / np.outer(norms, norms)


def measure(
    network: Network,
    pictures: Iterable[NDArray[np.uint8]],
    *,
    patterns: Sequence[str] = (),
    scale: int = 4,
    pixels: int = PIXELS,
) -> dict[str, Similarity]:
    """Compare the layers of a network on pictures, which are worked through one by one.

    Args:
        network: Any.
        pictures: LR, (h, w, 3) RGB, 0..255, none smaller than a window; at least one.
        patterns: Which layers, as of `find_layers`.
        scale: Of a network for any size.
        pixels: Of each picture that are compared, at most.

    Returns:
        By what is compared: what layers add to the skip path, which is what they give; of ConvAttns also what
        the large kernel alone, and with the dynamic one, makes; and the averaged maps of self-attentions.

    Raises:
        UsageError: There are no such layers, or a picture is smaller than a window.
    """
    layers = find_layers(network, patterns)
    device = next(network.parameters()).device
    moments: defaultdict[str, Moments | MapMoments] = defaultdict(Moments)
    labels: dict[str, list[str]] = {}
    for lr in pictures:
        check_size(network, lr.shape[:2])
        seen = _Seen(lr.shape[:2], pixels)
        record(network, to_network(lr)[None].to(device), layers, seen, scale)
        for kind, features in seen.features.items():
            moments[kind].add(_of_one_size(features))
            labels[kind] = [*features]
        for kind, maps in seen.maps.items():
            moments.setdefault(kind, MapMoments()).add([*maps.values()])
            labels[kind] = [*maps]
    return {kind: Similarity((*labels[kind],), sums.cka(), sums.cosine()) for kind, sums in moments.items()}


class _Seen:
    """What layers gave for one picture: features and maps, by kind and label."""

    def __init__(self, size: Sequence[int], most: int) -> None:
        self.features: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
        self.maps: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
        self._size, self._most = size, most
        self._chosen: dict[int, Tensor] = {}

    def __call__(self, layer: Layer, inputs: tuple[Any, ...], output: Any) -> None:
        self._keep(FEATURES, layer, output)
        if isinstance(layer.module, ConvAttn):
            inside = parts(layer.module, *inputs)
            self._keep(LARGE, layer, inside.large)
            self._keep(BOTH, layer, inside.both)
        if isinstance(layer.module, SelfAttention):
            with suppress(NotImplementedError):
                found = mean_map(layer.module.compared(*inputs))
                self.maps[f"{MAPS}, {found.shape[0]} x {found.shape[1]}"][layer.label] = found

    def _keep(self, kind: str, layer: Layer, y: Any) -> None:
        tokens = isinstance(y, Tensor) and y.dim() == 3  # (B, n, C)
        found = y if tokens else feature_map(y, self._size)
        if found is None:
            raise UsageError(f"{layer.name} gives no map of features; choose other layers")
        examples = (found if tokens else found.movedim(1, -1)).flatten(0, -2)  # (n, C)
        if (count := len(examples)) > self._most:
            if count not in self._chosen:
                order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
                self._chosen[count] = order[: self._most].sort()[0]
            examples = examples[self._chosen[count].to(found.device)]
        self.features[kind][layer.label] = examples.cpu()


def _of_one_size(features: dict[str, Tensor]) -> list[Tensor]:
    """The features of all layers, if they have the same pixels."""
    sizes = {len(x): name for name, x in features.items()}
    if len(sizes) > 1:
        (more, one), (less, other), *_ = sizes.items()
        raise UsageError(f"{one} and {other} have {more} and {less} pixels; compare layers of one size")
    return [*features.values()]


def draw(found: dict[str, Similarity], title: str = "") -> "Figure":
    """Draw matrices of similarities, CKA above cosine, a column for each of what is compared."""
    figure = new_figure(3.6 * len(found), 6.9)
    axes = figure.subplots(2, len(found), squeeze=False)
    image = None
    for column, (kind, similarity) in enumerate(found.items()):
        for row, name in enumerate(("cka", "cosine")):
            image = _draw_matrix(axes[row][column], similarity, name)
        axes[0][column].set_title(f"{kind}\n{axes[0][column].get_title()}", fontsize="medium")
    if image is not None:
        figure.colorbar(image, ax=axes, shrink=0.6)
    figure.suptitle(title)
    return figure


def _draw_matrix(axes: Any, similarity: Similarity, name: str) -> Any:
    """Draw a matrix, its layers named where there is room; above it the mean over pairs."""
    image = axes.imshow(getattr(similarity, name), vmin=0, vmax=1, cmap="viridis")
    step = max(len(similarity.layers) // 15, 1)
    places = range(0, len(similarity.layers), step)
    names = [similarity.layers[place] for place in places]
    axes.set_xticks(places, names, rotation=90, fontsize=6)
    axes.set_yticks(places, names, fontsize=6)
    words = {"cka": "CKA", "cosine": "cosine"}[name]
    mean = similarity.mean(name)
    axes.set_title(f"{words}, mean {mean:.2f}" if np.isfinite(mean) else words, fontsize="medium")
    return image
