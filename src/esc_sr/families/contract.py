"""What is to be known of a family of networks, so that its files are told and its pictures planned."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Shapes = Mapping[str, tuple[int, ...]]
"""Of the parameters of a file, by their names."""


@dataclass(frozen=True)
class PeerConfig:
    """Sizes of a network; each family adds its own.

    Attributes:
        scale: Enlargement, a whole number from 1.
    """

    scale: int


class Peer(nn.Module):
    """A network of another family than ESC's; its parameters have the names that its checkpoints have.

    Attributes:
        config: The sizes it was built from.
        reach: How far around a pixel the network is to look, px of the input, where a picture is cut up.
        exact: Whether no pixel of the result depends on anything further away than that.
    """

    config: PeerConfig
    reach: int
    exact: bool

    @property
    @abstractmethod
    def alive(self) -> int:
        """Numbers that `forward` without gradients keeps at once, for each pixel of its input."""

    @abstractmethod
    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures.

        Args:
            lr: (B, 3, H, W), RGB in 0..1, any sides from 1.

        Returns:
            (B, 3, scale H, scale W), RGB around 0..1, not clamped.
        """


@dataclass(frozen=True)
class Family:
    """How files of a family are told, and what they become.

    Attributes:
        kind: What our own files call it.
        name: What its authors call it.
        config: Class of its sizes.
        network: Builds it from these.
        recognise: Whether names and shapes are those of this family, perhaps damaged.
        infer: The sizes that they show; they are compared with all tensors later. KeyError with the name of a
            tensor that is needed to tell, ValueError, IndexError or ArithmeticError where no network has such
            shapes. Takes no longer than the file is large, whatever the names say.
        describe: Says in a few words what network this is.
        published: Names of sizes that have one.
    """

    kind: str
    name: str
    config: type[PeerConfig]
    network: Callable[[Any], Peer]
    recognise: Callable[[Shapes], bool]
    infer: Callable[[Shapes], PeerConfig]
    describe: Callable[[Any], str]
    published: Mapping[Any, str]


def enlargement(channels: int) -> int:
    """The scale of a pixel shuffle to RGB from so many channels.

    Raises:
        ValueError: They are not 3 times a square.
    """
    scale = math.isqrt(channels // 3)
    if channels != 3 * scale**2:
        raise ValueError(f"{channels} output channels are not 3 times a square")
    return scale
