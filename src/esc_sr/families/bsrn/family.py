"""BSRN as a family; its files have the authors' names alone."""

import re

from esc_sr.families.bsrn.network import BSRN, BSRNConfig
from esc_sr.families.family import Detected, Family, Tensors, enlargement, identity, shapes_of


class BSRNFamily(Family):
    """Told by blocks that refine their features by blueprint convolutions."""

    kind = "bsrn"
    name = "BSRN"
    home = "github.com/xiaom233/BSRN (MIT)"
    config = BSRNConfig
    network = BSRN
    presets = {"bsrn": {scale: BSRNConfig(scale) for scale in (2, 3, 4)}}

    def detect(self, tensors: Tensors, encoder: bool = False) -> Detected | None:
        """As `Family.detect`."""
        if not any(re.match(r"B\d+\.c\d_r\.pw\.", name) for name in tensors):
            return None
        shapes = shapes_of(tensors)
        in_blocks = [match[1] for name in shapes if (match := re.match(r"B(\d+)\.", name))]
        blocks = len(set(in_blocks))
        if len(in_blocks) < 20 * blocks:  # each has 43
            raise ValueError(f"{blocks} blocks have no more than {len(in_blocks)} tensors")
        channels = shapes["upsampler.upsampleOneStep.0.weight"][0]
        config = BSRNConfig(enlargement(channels), shapes["fea_conv.pw.weight"][0], blocks)
        return Detected(config, identity(tensors))

    def describe(self, config: BSRNConfig) -> str:
        """The name, with sizes that are not the published ones."""
        sizes = "" if self.variant(config) else f" of {config.dim} channels, {config.blocks} blocks"
        return f"BSRN x{config.scale}{sizes}"

    def shuffled(self, config: BSRNConfig) -> str:
        """Its only upsampling layer."""
        return "upsampler.upsampleOneStep.0"


FAMILY = BSRNFamily()
