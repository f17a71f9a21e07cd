"""What is to be known of a family of networks: how its files are told, and what they become."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor

from esc_sr.families.contract import Config, Encoder, Network

Tensors = Mapping[str, Tensor]
"""By their names."""

Shapes = Mapping[str, tuple[int, ...]]
"""Of tensors, by their names."""


class ForeignError(ValueError):
    """A network that looks like one of the family and cannot be loaded; carries its name."""


class Half(NamedTuple):
    """A file that has one part of a network, of two that are published apart.

    Attributes:
        prefix: What our names have before the file's.
        other_prefix: What they have before those in the other file.
        other: Name of the other file; that of this one where none follows from it.
    """

    prefix: str
    other_prefix: str
    other: str


class Detected(NamedTuple):
    """What a file was told to be.

    Attributes:
        config: Sizes of its network, to be compared with all tensors.
        names: Our names by those in the file, of all tensors that are weights.
        dialect: Whose names they are.
        constants: Tensors that this dialect leaves out, by our names.
    """

    config: Any
    names: Mapping[str, str]
    dialect: str = "authors"
    constants: Tensors = MappingProxyType({})


class Family(ABC):
    """How files of a family are told, and what they become.

    Attributes:
        kind: What our own files call it.
        name: What its authors call it.
        home: Repository in which its authors say where their weights are, and its licence.
        config: Class of its sizes.
        network: Builds it from these.
        presets: By name and scale, the sizes that are published.
        encoder: Builds from these what LTE needs of it; None where that is not to be had.
        first: Name of the convolution of the encoder that sees the picture.
        outer: Fields of the config that mean nothing to an encoder.
        mean: The colour in 0..1 that its networks take from pictures, and encoders do not.
        tensors_tell: Whether tensors tell all sizes, so that those in a header are only confirmed.
    """

    kind: str
    name: str
    home: str = ""
    config: type[Config]
    network: type[Network]
    presets: Mapping[str, Mapping[int, Any]] = MappingProxyType({})
    encoder: type[Encoder] | None = None
    first: str = ""
    outer: tuple[str, ...] = ()
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tensors_tell: bool = True

    @abstractmethod
    def detect(self, tensors: Tensors, encoder: bool = False) -> Detected | None:
        """Tell whether tensors are those of a network of the family, perhaps damaged, and of which.

        It takes no longer than the file is large, whatever the names say.

        Args:
            tensors: All in a file, by their names there.
            encoder: They are those of its encoder alone; only where there is one.

        Returns:
            What it is; None if it is of another family.

        Raises:
            KeyError: It is one, but a tensor is missing that is needed to tell; carries its name in the file.
            ForeignError: It is a variant that cannot be loaded.
            ValueError, IndexError, ArithmeticError, RuntimeError: It is one, but no network has such shapes.
        """

    def half(self, tensors: Tensors, file: str) -> Half | None:
        """Tell whether the file of such a name has but one part of a network, and where the other is."""
        return None

    def recognises(self, names: Iterable[str]) -> bool:
        """Whether names are those of its networks, as far as names alone tell; for messages."""
        return False

    @abstractmethod
    def describe(self, config: Any) -> str:
        """Say in a few words what network this is."""

    def variant(self, config: Any) -> str | None:
        """Name the preset that has these sizes, if any."""
        named = ((name, sizes) for name, scales in self.presets.items() for sizes in scales.values())
        return next((name for name, sizes in named if sizes == config), None)

    def official_names(self, config: Any, names: Iterable[str]) -> dict[str, str]:
        """Names in the authors' files by ours; by default they are the same."""
        return {name: name for name in names}

    def official(self, config: Any, state: Tensors) -> dict[str, Tensor]:
        """What the authors' code loads.

        Raises:
            ValueError: It has no network of these sizes.
        """
        names = self.official_names(config, state)
        return {names[name]: tensor for name, tensor in state.items()} | self.buffers(config)

    def buffers(self, config: Any) -> dict[str, Tensor]:
        """What the authors' files hold beside weights, by their names; it follows from the sizes."""
        return {}

    def published(self, config: Any, official: dict[str, Tensor]) -> dict[str, Any]:
        """What the authors' checkpoints hold around these tensors."""
        return {"params": official}

    def encoder_spec(self, config: Any) -> dict[str, Any]:
        """What checkpoints of LTE's authors say of the encoder."""
        return {"name": self.kind, "args": config.sizes()}

    def shuffled(self, config: Any) -> str | None:
        """Name of a last convolution to 3 scale^2 channels, which a pixel shuffle follows; None without."""
        return None

    def adapt(self, config: Any, wanted: Any, state: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
        """Make of weights what a training of another network can start from, as far as the family knows.

        It is asked for both networks, and leaves alone what it has no answer to.

        Args:
            config: Sizes of the network that the weights are of.
            wanted: Those of the network to train.
            state: The weights.

        Returns:
            Sizes, nearer to what is wanted, and weights of these; some may be left out.
        """
        return config, state


def enlargement(channels: int) -> int:
    """The scale of a pixel shuffle to RGB from so many channels.

    Raises:
        ValueError: They are not 3 times a square.
    """
    scale = math.isqrt(channels // 3)
    if channels != 3 * scale**2:
        raise ValueError(f"{channels} output channels are not 3 times a square")
    return scale


def shapes_of(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    """Shapes by names."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def identity(tensors: Iterable[str]) -> dict[str, str]:
    """Names as they are."""
    return {name: name for name in tensors}


def numbered(names: Iterable[str], pattern: str) -> int:
    """Count the different numbers that names have in the group of a pattern that fits their beginning."""
    return len({match[1] for name in names if (match := re.match(pattern, name))})
