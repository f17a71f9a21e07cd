"""MambaIRv2-light as a family; its files have the authors' names alone."""

from torch import Tensor

from esc_sr.families.family import ForeignError, Shapes, enlargement
from esc_sr.families.mambairv2.network import MambaIRv2, MambaIRv2Config
from esc_sr.families.parts.shell import ShellFamily, window_of
from esc_sr.families.parts.windows import position_index


class MambaIRv2Family(ShellFamily):
    """Told by scans behind self-attention in windows."""

    kind = "mambairv2"
    name = "MambaIRv2"
    home = "github.com/csguoh/MambaIR (Apache-2.0)"
    config = MambaIRv2Config
    network = MambaIRv2
    presets = {"mambairv2-light": {scale: MambaIRv2Config(scale) for scale in (2, 3, 4)}}
    block = r"layers\.(\d+)\.residual_group\.layers\.(\d+)\."
    mark = block + r"(assm|win_mhsa)\."
    computed = r"relative_position_index_SA"
    least = 40

    def infer(self, shapes: Shapes, encoder: bool = False) -> MambaIRv2Config:
        """As `PublishedFamily.infer`."""
        if "conv_before_upsample.0.weight" in shapes:
            raise ForeignError("MambaIRv2, a large one")
        first = "layers.0.residual_group.layers.0."
        table = shapes[f"{first}win_mhsa.relative_position_bias_table"]
        scans = f"{first}assm.selectiveScan."
        expanded, state = shapes[f"{scans}A_logs"]
        tokens, inner = shapes[f"{first}assm.embeddingB.weight"]
        return MambaIRv2Config(
            enlargement(shapes["upsample.0.weight"][0]),
            shapes["conv_first.weight"][0],
            self.depths(shapes),
            table[1],
            window_of(table),
            expanded,
            state,
            shapes[f"{scans}dt_projs_weight"][2],
            tokens,
            inner,
            shapes[f"{first}convffn1.fc1.weight"][0],
            shapes[f"{first}convffn1.sg.conv.weight"][2],
        )

    def buffers(self, config: MambaIRv2Config) -> dict[str, Tensor]:
        """As `Family.buffers`: an index."""
        return {"relative_position_index_SA": position_index(config.window)}


FAMILY = MambaIRv2Family()
