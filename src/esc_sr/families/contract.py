"""What a network tells of itself, so that all else can plan, run, measure and train it without knowing it."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from torch import Tensor, nn

from esc_sr.errors import UsageError
from esc_sr.network.attention import BACKENDS, SelfAttention
from esc_sr.network.rows import Bands

HANDED = 16
"""Rows of the picture whose result is handed over at once by a network that has no bands."""

LIBRARIES = 2**23
"""Bytes that torch's libraries take beside the maps of a network that has no bands: 7 MiB measured."""


@dataclass(frozen=True)
class Config:
    """Sizes of a network; each family adds its own, as fields with JSON's types.

    Attributes:
        scale: Enlargement, a whole number from 1; None if the network gives any size.
    """

    scale: int | None

    @property
    def depth(self) -> int | None:
        """How many blocks there are, if a network of fewer can be trained and grown (`at_depth`)."""
        return None

    def at_depth(self, depth: int) -> Self:
        """The same with so many blocks; only where `depth` tells some."""
        raise NotImplementedError

    def sizes(self) -> dict[str, Any]:
        """The sizes as files hold them, which `of_sizes` reads."""
        return asdict(self)

    @classmethod
    def of_sizes(cls, sizes: Mapping[str, Any]) -> Self:
        """Read what `sizes` gives.

        Raises:
            KeyError, TypeError, ValueError: No network has such sizes.
        """
        cls.check_types(sizes)
        return cls(**sizes)

    @classmethod
    def check_types(cls, sizes: Mapping[str, Any]) -> None:
        """Refuse what is no whole number where there has to be one, and so on.

        Raises:
            TypeError: There is such a size.
        """
        for one in fields(cls):
            value = sizes.get(one.name, one.default)
            if (one.type in (int, str, bool) and type(value) is not one.type) or (
                one.type is float and (type(value) not in (int, float) or not math.isfinite(value))
            ):
                raise TypeError(f"{one.name} is {value!r}")


class Cost(NamedTuple):
    """What enlarging a picture takes beside the picture and its result.

    Attributes:
        held: Bytes, however it is cut.
        band: Bytes while a band of rows is worked on.
        maps: Bytes of maps of the whole picture, which may lie in a file instead; of networks with bands.
        macs: Multiplications beside those of convolutions, products of matrices and the like, which
            `benchmark.complexity` counts as they run, by its `PARTS`: of a scan, for example. Below 0 where
            fewer of a part are to be counted.
    """

    held: int
    band: int
    maps: int = 0
    macs: Mapping[str, int] = MappingProxyType({})


def in_one_piece(numbers: int, height: int, width: int) -> Cost:
    """What a network takes that has no bands.

    Args:
        numbers: Alive at once for each pixel of the input, the result among them; all count as float32, since
            of autocast's not all are shorter.
        height: Of the input, px.
        width: Likewise.
    """
    return Cost(LIBRARIES, 4 * numbers * height * width)


class Unfused(NamedTuple):
    """Numbers alive at once for each pixel of a picture that goes layer after layer, as through a graph.

    Attributes:
        scores: Of self-attention, where it is not computed without keeping them.
        others: Beside these.
    """

    scores: int
    others: int


class Graph(NamedTuple):
    """A part of a network that becomes a graph for another runtime.

    Attributes:
        module: What it computes.
        inputs: Examples, in the order of the module's arguments.
        axes: Of inputs and outputs those that may be of any length, by the names of these lengths.
        outputs: What the module gives, in order.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    axes: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]


PICTURES = {0: "batch", 2: "height", 3: "width"}
"""`Graph.axes` of pictures (B, C, H, W)."""


Compute = Callable[[Mapping[str, Tensor]], Sequence[Tensor]]
"""A graph that runs: its inputs by name to its outputs in order."""


class Traits(nn.Module):
    """What networks and encoders tell; the defaults are those of one that takes a picture in one piece.

    Attributes:
        window: Side of the windows of its self-attention, px; 1 without. Crops should hold two of them.
        multiple: Bands and tiles have multiples of so many px.
        fold: Rows of the picture in one of its maps.
        has_bands: Whether it works through a picture in bands of rows, with the result of one piece.
        framed: Whether its zero padding shows, so that a picture gets a frame of mirrored pixels.
        measured_multiple: Published scores are of pictures that are reflected out to multiples of so many px.
        reach: How far around a pixel a tile is to look, px.
        blend: Pixels over which tiles are blended: two share 2 reach + blend, for a network with windows a
            multiple of these.
        exact: Whether nothing of the result depends on anything further away than `reach`.
        surveys: Whether statistics of a whole picture are kept in `Bands.kernels` for all of its tiles.
        inner: Modules between the first and last layer, by name, whose matrices Muon may move.
    """

    window: int = 1
    multiple: int = 16
    fold: int = 1
    has_bands: bool = False
    framed: bool = False
    measured_multiple: int = 1
    reach: int = 0
    blend: int = 16
    exact: bool = False
    surveys: bool = False
    inner: tuple[str, ...] = ()

    @property
    def passes(self) -> int:
        """How many stages the whole picture is taken through in bands."""
        return 1

    @property
    def unfused(self) -> "Unfused | None":
        """What a picture takes layer after layer, of a network with bands; `cost` tells that of others."""
        return None

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost | None:
        """What a picture takes, in bands or in one piece.

        Args:
            height: Of the input, px; that of several pictures together.
            width: Likewise.
            rows: Of the input in a band; of one without bands all.
            number: Bytes of a number in the maps: 4, or 2 in half precision.

        Returns:
            Bytes and multiplications; None where they are not known.
        """
        return None


class Network(Traits):
    """A network for super-resolution.

    `forward(lr)` takes pictures (B, 3, H, W), RGB in 0..1, of any sides from 1, and gives (B, 3, scale H,
    scale W), not clamped. If `config.scale` is None, `forward(lr, size)` gives (B, 3, *size).

    Attributes:
        config: The sizes it was built from.
        has_tiles: Whether a picture may be cut into tiles, where memory does not suffice otherwise.
        has_graphs: Whether what it computes can be written down for pictures of any sides, as `graphs`.
        blended: Channels of what `tile` gives.
    """

    config: Config
    has_tiles: bool = True
    has_graphs: bool = True
    blended: int = 3

    def bands(
        self, lr: Tensor, bands: Bands | None, size: tuple[int, int] | None = None, frame: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """Enlarge pictures band by band; by default at once, and the result is handed over in bands.

        Args:
            lr: As of `forward`; it is not written to.
            bands: How, if no gradient is recorded; None makes it one band.
            size: Height and width of the result, if the network gives any.
            frame: Pixels on each side of `lr` that are seen but not enlarged, if the network gives any size.

        Yields:
            The first row of a band of the result, and the band (B, 3, h, width), from top to bottom.
        """
        sr: Tensor = self(lr)
        if bands is not None:
            bands.done(lr.shape[2])
        yield from handed(sr, lr)

    def tile(self, lr: Tensor, bands: Bands) -> Iterator[tuple[int, Tensor]]:
        """What a tile becomes and is blended with its neighbours as: its result, by default.

        A network for any size gives features of the tile's sides, whose blend `decode` takes: so no tile has
        an edge between two pixels.

        Args:
            lr: A tile, as of `forward`.
            bands: As of `bands`.

        Yields:
            As `bands`; (B, blended, h, width).
        """
        return self.bands(lr, bands)

    def decode(
        self,
        lr: Tensor,
        features: Iterable[tuple[int, Tensor]],
        bands: Bands | None,
        size: tuple[int, int],
        frame: int = 0,
    ) -> Iterator[tuple[int, Tensor]]:
        """Enlarge pictures from features, if the network gives any size.

        Args:
            lr: As of `bands`.
            features: Those of the whole pictures, as of `tile`.
            bands: As there.
            size: As there.
            frame: As there.

        Yields:
            As `bands`.
        """
        raise NotImplementedError

    def graphs(self, lr: Tensor) -> dict[str, Graph]:
        """What it becomes for other runtimes: its only graph, called "", or the names of several.

        Args:
            lr: Example of pictures, (B, 3, H, W) in 0..1.
        """
        return {"": Graph(self, {"input": lr}, {"input": PICTURES, "output": {0: "batch"}}, ("output",))}

    def by_graphs(
        self, compute: Mapping[str, Compute], lr: Tensor, size: tuple[int, int] | None = None, frame: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """As `bands`, in one piece, by other runtimes: no parameter is read.

        Args:
            compute: What each of `graphs` has become.
            lr: As there.
            size: As there.
            frame: As there.
        """
        (sr,) = compute[""]({"input": lr})
        yield from handed(sr, lr)

    def query(self, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Colours at points, if the network gives any size; as `lte.EncoderLTE.query`."""
        raise NotImplementedError

    def enlarge(self, lr: Tensor, scale: int) -> Tensor:
        """Enlarge (B, 3, H, W) by a whole scale, the network's own unless it gives any size."""
        if self.config.scale is None:
            return self(lr, (scale * lr.shape[2], scale * lr.shape[3]))
        return self(lr)

    @property
    def attention(self) -> str | None:
        """How self-attention is computed, one of `attention.BACKENDS`; None where there is no choice."""
        return next((layer.backend for layer in self._attentions()), None)

    @attention.setter
    def attention(self, backend: str) -> None:
        if backend not in BACKENDS:
            raise ValueError(f"attention backend {backend!r} is none of {', '.join(BACKENDS)}")
        for layer in self._attentions():
            layer.backend = backend

    def _attentions(self) -> Iterable[SelfAttention]:
        return (layer for layer in self.modules() if isinstance(layer, SelfAttention))


def handed(sr: Tensor, lr: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Hand a picture over that was enlarged at once, (B, 3, H, W), in bands as of `Network.bands`."""
    rows = HANDED * max(sr.shape[2] // lr.shape[2], 1)
    for top in range(0, sr.shape[2], rows):
        yield top, sr[:, :, top : top + rows].clone()  # who keeps it, keeps no more


@dataclass(frozen=True)
class ForeignConfig(Config):
    """All that is known of a network of no family.

    Attributes:
        name: What it is called.
    """

    scale: int
    name: str


class Foreign(Network):
    """A module of which nothing is known but its scale; it takes a picture in one piece."""

    config: ForeignConfig
    has_tiles = False
    measured_multiple = 32

    def __init__(self, module: nn.Module, scale: int, name: str = "") -> None:
        """Take the module, (B, 3, H, W) to (B, 3, scale H, scale W), and what it is called, or its class."""
        super().__init__()
        self.config = ForeignConfig(scale, name or type(module).__name__)
        self.module = module

    def forward(self, lr: Tensor) -> Tensor:
        """What the module gives.

        Raises:
            UsageError: That is of another size.
        """
        sr: Tensor = self.module(lr)
        scale = self.config.scale
        wanted = (*lr.shape[:2], *(scale * side for side in lr.shape[2:]))
        if sr.shape != wanted:
            raise UsageError(
                f"{self.config.name} makes {tuple(sr.shape)} of {tuple(lr.shape)}, which is not x{scale}; "
                "give the module's own scale"
            )
        return sr


def adopt(module: nn.Module, scale: int | None) -> Network:
    """Give any module the contract.

    Args:
        module: A `Network`, which stays as it is, or another (B, 3, H, W) -> (B, 3, scale H, scale W).
        scale: Of the latter, if it has no `config.scale`.

    Raises:
        ValueError: Neither is there.
    """
    if isinstance(module, Network):
        return module
    own = getattr(getattr(module, "config", None), "scale", scale)
    if own is None:
        raise ValueError("does not tell its scale; pass scale=, a whole one")
    return Foreign(module, int(own))


class Encoder(Traits):
    """Picture to features, that LTE makes pictures of any size from; a module of a family that has one.

    Attributes:
        dim: Channels of the features.
    """

    dim: int

    @abstractmethod
    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`."""

    @abstractmethod
    def encode(self, x: Tensor, bands: Bands | None) -> Tensor:
        """Extract features (B, dim, H, W) from pictures (B, 3, H, W) in -1..1, in bands where it can."""
