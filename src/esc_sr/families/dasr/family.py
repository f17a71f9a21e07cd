"""DASR of Liang et al. as a family; its authors have two files, "net_g" and "net_p"."""

import math
import re

from esc_sr.families.dasr.network import DASR, DASRConfig
from esc_sr.families.family import Half, Shapes, Tensors, numbered
from esc_sr.families.published import PublishedFamily, expect

HALVES = {"g": "body.0.conv1.weight", "p": "MappingNet.1.weight"}
"""A name in each of the files."""


class DASRFamily(PublishedFamily):
    """Told by the layers that make weights of experts from the quality of a picture."""

    kind = "dasr"
    name = "DASR (Liang et al.)"
    home = "github.com/csjliang/DASR (Apache-2.0)"
    config = DASRConfig
    network = DASR
    presets = {"dasr": {scale: DASRConfig(scale) for scale in (2, 4)}}
    mark = r"p\.MappingNet\."

    def half(self, tensors: Tensors, file: str) -> Half | None:
        """As `Family.half`."""
        for part, name in HALVES.items():
            if name in tensors and tensors[name].ndim == (5 if part == "g" else 2):
                other = "p" if part == "g" else "g"
                return Half(f"{part}.", f"{other}.", re.sub(rf"(?<![^\W_]){part}(?![^\W_])", other, file))
        return None

    def infer(self, shapes: Shapes, encoder: bool = False) -> DASRConfig:
        """As `PublishedFamily.infer`."""
        blocks = numbered(shapes, r"g\.body\.(\d+)\.")
        expect(shapes, 4 * blocks)
        experts, dim = shapes["g.conv_first.weight"][:2]
        ups = [shape for name, shape in shapes.items() if re.fullmatch(r"g\.upconv\d\.weight", name)]
        scale = math.prod(math.isqrt(shape[1] // dim) for shape in ups)
        predictor = shapes["p.ConvNet.0.weight"][0]
        return DASRConfig(scale, dim, blocks, experts, predictor, shapes["p.ConvNet.10.weight"][0])

    def describe(self, config: DASRConfig) -> str:
        """The name, with sizes that are not the published ones."""
        sizes = f" of {config.dim} channels, {config.blocks} blocks, {config.experts} experts"
        return f"DASR x{config.scale}{'' if self.variant(config) else sizes}"


FAMILY = DASRFamily()
