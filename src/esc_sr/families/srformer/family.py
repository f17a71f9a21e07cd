"""SRFormer as a family; its files have the authors' names alone."""

from torch import Tensor

from esc_sr.families.family import ForeignError, Shapes, enlargement
from esc_sr.families.parts.shell import ShellFamily, window_of
from esc_sr.families.parts.windows import official_buffers
from esc_sr.families.srformer.network import FOLD, SRFormer, SRFormerConfig


class SRFormerFamily(ShellFamily):
    """Told by keys and values that are one layer, in blocks with tables of biases."""

    kind = "srformer"
    name = "SRFormer"
    home = "github.com/HVision-NKU/SRFormer (CC BY-NC 4.0)"
    config = SRFormerConfig
    network = SRFormer
    presets = {"srformer-light": {scale: SRFormerConfig(scale) for scale in (2, 3, 4)}}
    mark = ShellFamily.block + r"attn\.kv\."
    least = 15

    def infer(self, shapes: Shapes, encoder: bool = False) -> SRFormerConfig:
        """As `PublishedFamily.infer`."""
        if "conv_last.weight" in shapes:
            raise ForeignError("SRFormer with another upsampler")
        first = "layers.0.residual_group.blocks.0."
        table = shapes[f"{first}attn.relative_position_bias_table"]
        return SRFormerConfig(
            enlargement(shapes["upsample.0.weight"][0]),
            shapes["conv_first.weight"][0],
            self.depths(shapes),
            table[1],
            FOLD * window_of(table),
            shapes[f"{first}mlp.fc1.weight"][0],
        )

    def buffers(self, config: SRFormerConfig) -> dict[str, Tensor]:
        """As `Family.buffers`: indices, and masks of 64 px."""
        return official_buffers(config.depths, config.window, FOLD, "aligned_relative_position_index")


FAMILY = SRFormerFamily()
