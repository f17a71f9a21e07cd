"""Graphs that `esc_sr.export` wrote, as networks."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from esc_sr import families
from esc_sr.engines.plain import EngineNetwork
from esc_sr.errors import WeightsError
from esc_sr.families.contract import Compute, Cost, Network, in_one_piece
from esc_sr.network.rows import Bands, join
from esc_sr.runtimes import SUFFIXES, Opened, open_graph
from esc_sr.weights.checkpoint import read_config


class GraphNetwork(EngineNetwork):
    """A network computed by its graphs, on the CPU, without gradients; a picture or a tile in one piece.

    One for any size has no tiles: its graph gives maps, of many more channels than features.
    """

    def __init__(self, network: Network, graphs: Mapping[str, Opened], kind: str) -> None:
        """Take a network without parameters, and its graphs, of a kind, by the names of `Network.graphs`."""
        super().__init__(network)
        self._told = (network,)  # not a part of this one, whose device it would decide
        self._keeps_scores = kind != "openvino"  # which fuses attention
        self.has_bands, self.surveys, self.fold, self.inner = False, False, 1, ()
        self.has_tiles = network.config.scale is not None
        self._compute = {name: _computing(graph) for name, graph in graphs.items()}

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost | None:
        """As `Traits.cost`: of all layers in one piece, one after the other."""
        (network,) = self._told
        numbers = network.unfused
        if numbers is None:
            return network.cost(height, width, height)
        return in_one_piece(numbers.others + self._keeps_scores * numbers.scores, height, width)

    def forward(self, lr: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """As `Network`."""
        height = lr.shape[2] * (self.config.scale or 1) if size is None else size[0]
        return join(self.bands(lr, None, size), height)

    def bands(
        self, lr: Tensor, bands: Bands | None, size: tuple[int, int] | None = None, frame: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """As `Network.bands`, in one piece."""
        with torch.no_grad():
            yield from self._told[0].by_graphs(self._compute, lr, size, frame)
        if bands is not None:
            bands.done(lr.shape[2])


def kind_of_graph(name: str | Path) -> str | None:
    """The kind of a graph, one of `SUFFIXES`, if a name is that of a graph's file."""
    suffix = Path(name).suffix.lower()
    return next((kind for kind, own in SUFFIXES.items() if own == suffix), None)


def open_network(path: Path, kind: str, precision: str = "fp32") -> GraphNetwork:
    """Open the graph, or both graphs, of a network.

    Args:
        path: What `esc-sr export` was told to write, or one of the files that came of it.
        kind: One of `SUFFIXES`.
        precision: Of the arithmetic.

    Raises:
        WeightsError: The file is missing or damaged, or of something else.
    """
    if not path.is_file() and _beside(path, "encoder").is_file():
        path = _beside(path, "encoder")
    graph = open_graph(path, kind, precision)
    if not {"format", "kind", "config", "part"} <= graph.about.keys():
        raise WeightsError(
            f"{path}: a graph of a network that is not known; take one that esc-sr export wrote"
        )
    config = read_config(graph.about, path)
    if config.scale is not None:
        return GraphNetwork(families.blank(config), {"": graph}, kind)
    found = {graph.about["part"]: graph}
    for part in ("encoder", "query"):
        if part not in found:
            whole = path.with_stem(path.stem.removesuffix(f"-{graph.about['part']}"))
            found[part] = open_graph(_beside(whole, part), kind, precision)
            if {**found[part].about, "part": ""} != {**graph.about, "part": ""}:
                raise WeightsError(f"{_beside(whole, part)}: of another network than {path.name}")
    return GraphNetwork(families.blank(config), found, kind)


def _beside(path: Path, part: str) -> Path:
    """The file of one of two graphs."""
    return path.with_stem(f"{path.stem}-{part}")


def _computing(graph: Opened) -> Compute:
    """A graph as the contract has it."""

    def compute(inputs: Mapping[str, Tensor]) -> list[Tensor]:
        given = {name: value.float() for name, value in inputs.items()}
        return [torch.from_numpy(found).float() for found in graph.run(given)]

    return compute
