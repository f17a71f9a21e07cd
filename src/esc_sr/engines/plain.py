"""A network by torch alone."""

from collections.abc import Iterable, Iterator

from torch import Tensor

from esc_sr import native
from esc_sr.families.contract import Cost, Graph, Network, Traits
from esc_sr.network.rows import Bands


class EngineNetwork(Network):
    """A network that tells the same as another one, and is computed in another way."""

    def __init__(self, network: Network) -> None:
        """Take over what the other network tells."""
        super().__init__()
        for name in (*Traits.__annotations__, *Network.__annotations__):
            setattr(self, name, getattr(network, name))


class TorchNetwork(EngineNetwork):
    """A network without the compiled kernels.

    Attributes:
        network: The same with them.
    """

    def __init__(self, network: Network) -> None:
        """Take the network."""
        super().__init__(network)
        self.network = network

    @property
    def passes(self) -> int:
        """The other network's."""
        return self.network.passes

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost | None:
        """The other network's."""
        return self.network.cost(height, width, rows, number)

    def graphs(self, lr: Tensor) -> dict[str, Graph]:
        """The other network's."""
        return self.network.graphs(lr)

    def forward(self, lr: Tensor, *size: tuple[int, int]) -> Tensor:
        """As `Network`."""
        with native.without():
            return self.network(lr, *size)

    def query(self, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """As `Network.query`."""
        with native.without():
            return self.network.query(lr, coord, cell)

    def bands(
        self, lr: Tensor, bands: Bands | None, size: tuple[int, int] | None = None, frame: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """As `Network.bands`."""
        return _without_kernels(self.network.bands(lr, bands, size, frame))

    def tile(self, lr: Tensor, bands: Bands) -> Iterator[tuple[int, Tensor]]:
        """As `Network.tile`."""
        return _without_kernels(self.network.tile(lr, bands))

    def decode(
        self,
        lr: Tensor,
        features: Iterable[tuple[int, Tensor]],
        bands: Bands | None,
        size: tuple[int, int],
        frame: int = 0,
    ) -> Iterator[tuple[int, Tensor]]:
        """As `Network.decode`."""
        return _without_kernels(self.network.decode(lr, features, bands, size, frame))


def _without_kernels(found: Iterator[tuple[int, Tensor]]) -> Iterator[tuple[int, Tensor]]:
    """Compute bands without the compiled kernels."""
    while True:
        with native.without():  # whoever takes the band may use kernels
            band = next(found, None)
        if band is None:
            return
        yield band
