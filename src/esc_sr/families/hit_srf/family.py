"""HiT-SRF as a family; its files have the authors' names alone."""

import math

from esc_sr.families.family import Shapes, enlargement
from esc_sr.families.hit_srf.network import HiTSRF, HiTSRFConfig, HiTSRFEncoder
from esc_sr.families.parts.shell import ShellFamily

_SIZES = HiTSRFConfig()


class HiTSRFFamily(ShellFamily):
    """Told by blocks of correlations.

    Tensors tell how often windows are larger than the base, but not the base, nor windows below it; these are
    taken for those that are published.
    """

    kind = "hit-srf"
    name = "HiT-SRF"
    home = "github.com/XiangZ-0/HiT-SR (Apache-2.0)"
    config = HiTSRFConfig
    network = HiTSRF
    encoder = HiTSRFEncoder
    presets = {"hit-srf": {scale: HiTSRFConfig(scale) for scale in (2, 3, 4)}}
    tensors_tell = False
    mark = ShellFamily.block + r"correlation\.qv\."
    least = 20

    def infer(self, shapes: Shapes, encoder: bool = False) -> HiTSRFConfig:
        """As `PublishedFamily.infer`."""
        depths = self.depths(shapes)
        longest = depths.index(max(depths))
        windows = []
        for number in range(max(depths)):
            name = f"layers.{longest}.residual_group.blocks.{number}.correlation.spatial_linear.weight"
            group = math.isqrt(shapes[name][1])
            usual = _SIZES.windows[number] if number < len(_SIZES.windows) else _SIZES.base
            fits = max(usual // _SIZES.base, 1) == group
            windows.append(usual if fits else group * _SIZES.base)
        first = "layers.0.residual_group.blocks.0."
        return HiTSRFConfig(
            2 if encoder else enlargement(shapes["upsample.0.weight"][0]),
            shapes["conv_first.weight"][0],
            depths,
            shapes[f"{first}correlation.pos.pos3.2.weight"][0],
            tuple(windows),
            _SIZES.base,
            shapes[f"{first}mlp.fc1.weight"][0],
        )


FAMILY = HiTSRFFamily()
