"""Which network a picture goes through: the one that was given, or one of those that a name stands for."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import nn

from esc_sr.engines import equip, load, pick_place
from esc_sr.errors import UsageError
from esc_sr.families.contract import Network, adopt
from esc_sr.machine.memory import enough_memory
from esc_sr.upscaling import DEFAULT_SCALE
from esc_sr.upscaling.runner import Runner, Sides
from esc_sr.upscaling.sizes import Size
from esc_sr.weights import bundled_scales, files_of


class Way(NamedTuple):
    """How a picture comes to its size: through which network, what that gives, and what is wished (px)."""

    runner: Runner
    given: Sides
    size: Sides


class Engine(NamedTuple):
    """What computes the networks, as of `engines.load`; errors as there."""

    name: str = "auto"
    precision: str = "fp32"
    tell: Callable[[str], object] = lambda text: None


class Networks:
    """A network, or the networks of one name, which are loaded when they are first wanted, and kept.

    Several threads may use it at once.

    Attributes:
        name: What people call it.
        device: Where the networks are.
        scales: What the networks enlarge by, in order; none if any size is given.
        usual: The factor where none is wished.
    """

    def __init__(
        self,
        model: str | Path | nn.Module,
        wish: Size | None,
        device: str,
        ready: Callable[[Network, str], Runner],
        engine: Engine = Engine(),
        denoise: float | None = None,
    ) -> None:
        """Load the network if there is but one, whatever the size.

        Args:
            model: A bundled name, a checkpoint file, or a network.
            wish: The size that is asked for, if any; a network that does not tell its scale has that one.
            device: As of `upscale`.
            ready: Says how a network is run; takes its name for people, too.
            engine: What computes the networks.
            denoise: As of `upscale`.

        Raises:
            UsageError: There is no such device or engine, the network's scale is not known, or `denoise` is
                out of range or not of this model.
            WeightsError: There is no such model, or its file is damaged.
            DeviceError: The device is missing.
        """
        self._model, self._stays = model, device == "auto"
        self._ready, self._engine, self._denoise = ready, engine, denoise
        self._runners: dict[int | None, Runner] = {}
        self._lock = threading.Lock()
        known = type(model).__name__ if isinstance(model, nn.Module) else model
        self.name = Path(known).name
        self.device = pick_place(device, engine.name)
        if denoise is not None:
            files_of(known, None, denoise)  # or refuses
        every = [] if isinstance(model, nn.Module) else bundled_scales(known)
        self.scales = every and bundled_scales(known, denoise)
        if not self.scales:
            network = self._network(None, wish)
            own = network.config.scale
            self.scales = every = [] if own is None else [own]
            self._runners[own] = ready(network, self.name)
            self.device = self._runners[own].device
        self.usual = every[0] if len(every) == 1 else DEFAULT_SCALE

    def own(self, scale: float) -> int | None:
        """The scale of the network that is used for some factor; None if it gives any.

        Raises:
            UsageError: The factor is more than any of them gives.
        """
        own = next((own for own in self.scales if own >= scale), None)
        if self.scales and own is None:
            raise UsageError(
                f"{self.name} enlarges x{self.scales[-1]} at most, not x{scale:g}; "
                "ask for less, or take another model"
            )
        return own

    def given(self, size: Size, height: int, width: int) -> Sides:
        """What the network for a size makes of a picture of some pixels, before that is reduced to the size.

        Raises:
            UsageError: As `own`, or the picture is larger than the size.
        """
        own = self.own(size.scale(height, width))
        return size.target(height, width) if own is None else (height * own, width * own)

    def way(self, size: Size, height: int, width: int) -> Way:
        """How a picture of some pixels comes to a size.

        Raises:
            UsageError: As `given`.
            WeightsError: The file of the network is damaged.
        """
        target, given = size.target(height, width), self.given(size, height, width)
        return Way(self.runner(self.own(size.scale(height, width))), given, target)

    def runner(self, own: int | None) -> Runner:
        """The network of one of the scales, loaded when it is first wanted.

        Raises:
            WeightsError: Its file is damaged.
        """
        with self._lock:
            if own not in self._runners:
                self._runners[own] = self._ready(self._network(own), self.name)
            return self._runners[own]

    def _network(self, scale: int | None, wish: Size | None = None) -> Network:
        """The network that was given, moved to the device unless that is "auto", or loaded."""
        if isinstance(self._model, nn.Module):
            module = self._model if self._stays else self._model.to(self.device)
            try:
                network = adopt(module, _whole(wish))
            except ValueError as error:
                raise UsageError(f"{self.name} {error}") from error
            return equip(network, *self._engine)
        with enough_memory(self.name):
            name, precision, tell = self._engine
            return load(
                self._model,
                self.device,
                scale=scale,
                engine=name,
                precision=precision,
                tell=tell,
                denoise=self._denoise,
            )


def _whole(wish: Size | None) -> int | None:
    """The whole scale that is wished for, if any."""
    if wish is None or wish.of != "scale" or wish.value != int(wish.value):
        return None
    return int(wish.value)
