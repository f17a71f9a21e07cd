"""SRVGGNetCompact, the small networks of Real-ESRGAN (Wang et al. 2021); names as in its checkpoints."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.contract import Config, Cost, Network, in_one_piece
from esc_sr.network.padding import channels_last


@dataclass(frozen=True)
class SRVGGConfig(Config):
    """Sizes of an SRVGGNetCompact; the defaults are those of "general x4 v3".

    Attributes:
        scale: Enlargement, a whole number from 1.
        dim: Channels of the features.
        convs: Convolutions between the first and the last.
    """

    scale: int = 4
    dim: int = 64
    convs: int = 32

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ValueError: A size is out of range.
        """
        if min(self.scale, self.dim) < 1 or self.convs < 0:
            raise ValueError(
                f"scale {self.scale} and {self.dim} channels must be at least 1, {self.convs} convolutions 0"
            )


class SRVGGNetCompact(Network):
    """3x3 convolutions with PReLU between them; their result is added to the nearest enlargement."""

    config: SRVGGConfig
    exact = True
    blend = 2

    def __init__(self, config: SRVGGConfig) -> None:
        """Build it with random weights."""
        super().__init__()
        self.config = config
        self.reach = config.convs + 2
        self.inner = tuple(f"body.{2 * number}" for number in range(1, config.convs + 1))
        layers: list[nn.Module] = []
        for channels in (3, *(config.dim for _ in range(config.convs))):
            layers += [nn.Conv2d(channels, config.dim, 3, padding=1), nn.PReLU(config.dim)]
        self.body = nn.Sequential(*layers, nn.Conv2d(config.dim, 3 * config.scale**2, 3, padding=1))

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`; measured: input and output of a layer and 3, or three results if that is more."""
        return in_one_piece(max(2 * self.config.dim, 9 * self.config.scale**2) + 3, height, width)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures, as `Network` says."""
        x = self.body(channels_last(lr))
        x = x.unflatten(1, (3, -1)) + lr.unsqueeze(2)  # the same for all sub-pixels: nearest neighbour
        return F.pixel_shuffle(x.flatten(1, 2), self.config.scale)
