"""Omni-SR as a family; its files have the authors' names alone."""

from esc_sr.families.family import Shapes, enlargement, numbered
from esc_sr.families.omnisr.network import OmniSR, OmniSRConfig
from esc_sr.families.parts.shell import window_of
from esc_sr.families.published import PublishedFamily, expect


class OmniSRFamily(PublishedFamily):
    """Told by groups of blocks in two lists of one name."""

    kind = "omnisr"
    name = "OmniSR"
    home = "github.com/Francis0625/Omni-SR (Apache-2.0)"
    config = OmniSRConfig
    network = OmniSR
    presets = {"omnisr": {scale: OmniSRConfig(scale) for scale in (2, 3, 4)}}
    mark = r"residual_layer\.\d+\.residual_layer\.\d+\.layer\."

    def infer(self, shapes: Shapes, encoder: bool = False) -> OmniSRConfig:
        """As `PublishedFamily.infer`."""
        groups = numbered(shapes, r"residual_layer\.(\d+)\.")
        blocks = numbered(shapes, r"residual_layer\.0\.residual_layer\.(\d+)\.") - 1
        expect(shapes, 45 * groups * blocks)
        table = shapes["residual_layer.0.residual_layer.0.layer.2.fn.rel_pos_bias.weight"]
        scale = enlargement(shapes["up.0.weight"][0])
        return OmniSRConfig(scale, shapes["input.weight"][0], groups, blocks, window_of(table))

    def describe(self, config: OmniSRConfig) -> str:
        """The name, with sizes that are not the published ones."""
        sizes = f" of {config.dim} channels, {config.groups} groups of {config.blocks} blocks"
        return f"OmniSR x{config.scale}{'' if self.variant(config) else sizes}"

    def shuffled(self, config: OmniSRConfig) -> str:
        """Its only upsampling layer."""
        return "up.0"


FAMILY = OmniSRFamily()
