"""SRVGGNetCompact, the small networks of Real-ESRGAN (Wang et al. 2021); names as in its checkpoints."""

import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.contract import Family, Peer, PeerConfig, Shapes, enlargement


@dataclass(frozen=True)
class SRVGGConfig(PeerConfig):
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


class SRVGGNetCompact(Peer):
    """3x3 convolutions with PReLU between them; their result is added to the nearest enlargement."""

    exact = True

    def __init__(self, config: SRVGGConfig) -> None:
        """Build it with random weights."""
        super().__init__()
        self.config: SRVGGConfig = config
        self.reach = config.convs + 2
        layers: list[nn.Module] = []
        for channels in (3, *(config.dim for _ in range(config.convs))):
            layers += [nn.Conv2d(channels, config.dim, 3, padding=1), nn.PReLU(config.dim)]
        self.body = nn.Sequential(*layers, nn.Conv2d(config.dim, 3 * config.scale**2, 3, padding=1))

    @property
    def alive(self) -> int:
        """Measured: input and output of a layer and 3, or at a large scale three results."""
        return max(2 * self.config.dim, 9 * self.config.scale**2) + 3

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures, as `Peer.forward` says."""
        x = self.body(lr.contiguous(memory_format=torch.channels_last))
        x = x.unflatten(1, (3, -1)) + lr.unsqueeze(2)  # the same for all sub-pixels: nearest neighbour
        return F.pixel_shuffle(x.flatten(1, 2), self.config.scale)


def recognise(shapes: Shapes) -> bool:
    """Whether weights `body.N.weight` of 4 dimensions have some of 1 dimension between them."""
    found = {
        (int(match[1]) % 2, len(shape))
        for name, shape in shapes.items()
        if (match := re.fullmatch(r"body\.(\d{1,9})\.weight", name))
    }
    return {(0, 4), (1, 1)} <= found


def infer(shapes: Shapes) -> SRVGGConfig:
    """Infer the sizes, as `Family.infer` says."""
    numbers = {int(match[1]) for name in shapes if (match := re.match(r"body\.(\d{1,9})\.", name))}
    last = max(numbers) + max(numbers) % 2
    if last > 2 * len(numbers) + 2:
        raise ValueError(f"of layers up to body.{last} most are missing")
    channels = shapes[f"body.{last}.weight"][0]
    return SRVGGConfig(enlargement(channels), shapes["body.0.weight"][0], last // 2 - 1)


def describe(config: SRVGGConfig) -> str:
    """Say in a few words what network this is."""
    return f"SRVGGNetCompact x{config.scale} of {config.dim} channels, {config.convs} convolutions"


FAMILY = Family(
    kind="srvgg",
    name="SRVGGNetCompact",
    config=SRVGGConfig,
    network=SRVGGNetCompact,
    recognise=recognise,
    infer=infer,
    describe=describe,
    published={SRVGGConfig(): "realesr-general-x4v3", SRVGGConfig(convs=16): "realesr-animevideov3"},
)
