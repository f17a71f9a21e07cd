"""SRVGGNetCompact as a family; its files have the authors' names alone."""

import re

from esc_sr.families.family import Detected, Family, Tensors, enlargement, identity, shapes_of
from esc_sr.families.srvgg.network import SRVGGConfig, SRVGGNetCompact


class SRVGGFamily(Family):
    """Told by weights `body.N.weight` of 4 dimensions that have some of 1 dimension between them."""

    kind = "srvgg"
    name = "SRVGGNetCompact"
    home = "github.com/xinntao/Real-ESRGAN (BSD-3-Clause)"
    config = SRVGGConfig
    network = SRVGGNetCompact
    presets = {
        "realesr-general-x4v3": {4: SRVGGConfig()},
        "realesr-animevideov3": {4: SRVGGConfig(convs=16)},
    }

    def detect(self, tensors: Tensors, encoder: bool = False) -> Detected | None:
        """As `Family.detect`."""
        shapes = shapes_of(tensors)
        layers = {
            int(match[1]): len(shape)
            for name, shape in shapes.items()
            if (match := re.fullmatch(r"body\.(\d{1,9})\.weight", name))
        }
        if not {(0, 4), (1, 1)} <= {(number % 2, dimensions) for number, dimensions in layers.items()}:
            return None
        numbers = {int(match[1]) for name in shapes if (match := re.match(r"body\.(\d{1,9})\.", name))}
        last = max(numbers) + max(numbers) % 2
        if last > 2 * len(numbers) + 2:
            raise ValueError(f"of layers up to body.{last} most are missing")
        channels = shapes[f"body.{last}.weight"][0]
        config = SRVGGConfig(enlargement(channels), shapes["body.0.weight"][0], last // 2 - 1)
        return Detected(config, identity(tensors))

    def describe(self, config: SRVGGConfig) -> str:
        """The name and all sizes."""
        return f"SRVGGNetCompact x{config.scale} of {config.dim} channels, {config.convs} convolutions"

    def shuffled(self, config: SRVGGConfig) -> str:
        """The last of its layers."""
        return f"body.{2 * config.convs + 2}"


FAMILY = SRVGGFamily()
