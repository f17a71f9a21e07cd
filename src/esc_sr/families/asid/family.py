"""ASID as a family; its files have the authors' names alone."""

from typing import Any

from torch import Tensor

from esc_sr.families.asid.network import ASID, ASIDConfig
from esc_sr.families.family import Shapes, enlargement, numbered
from esc_sr.families.parts.shell import window_of
from esc_sr.families.published import PublishedFamily, expect


class ASIDFamily(PublishedFamily):
    """Told by a first block whose attention is that of all."""

    kind = "asid"
    name = "ASID"
    home = "github.com/saturnian77/ASID (no licence)"
    config = ASIDConfig
    network = ASID
    presets = {"asid-d8": {scale: ASIDConfig(scale) for scale in (2, 3, 4)}}
    mark = r"block0\.residual_layer\.0\."

    def infer(self, shapes: Shapes, encoder: bool = False) -> ASIDConfig:
        """As `PublishedFamily.infer`."""
        blocks = numbered(shapes, r"block(\d+)\.")
        expect(shapes, 110 * blocks)
        table = shapes["block0.residual_layer.0.SLA1.attn.rel_pos_bias.weight"]
        scale = enlargement(shapes["up.0.weight"][0])
        return ASIDConfig(scale, shapes["input.weight"][0], blocks, window_of(table))

    def describe(self, config: ASIDConfig) -> str:
        """The preset's name, or sizes."""
        return self.named(config, f"{config.dim} channels, {config.blocks} blocks")

    def published(self, config: Any, official: dict[str, Tensor]) -> dict[str, Any]:
        """As the authors: nothing around them."""
        return official

    def shuffled(self, config: ASIDConfig) -> str:
        """Its only upsampling layer."""
        return "up.0"


FAMILY = ASIDFamily()
