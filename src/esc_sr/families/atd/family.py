"""ATD as a family; its files have the authors' names alone."""

from typing import Any

from torch import Tensor

from esc_sr.families.atd.network import ATD, ATDConfig, ATDEncoder
from esc_sr.families.family import ForeignError, Shapes, enlargement
from esc_sr.families.parts.shell import ShellFamily, window_of
from esc_sr.families.parts.windows import position_index


class ATDFamily(ShellFamily):
    """Told by attention to tokens.

    Tensors do not tell how many pixels of a category see each other; taken is what is published for windows
    of 16 px.
    """

    kind = "atd"
    name = "ATD"
    home = "github.com/LabShuHangGU/Adaptive-Token-Dictionary (Apache-2.0)"
    config = ATDConfig
    network = ATD
    encoder = ATDEncoder
    presets = {"atd-light": {scale: ATDConfig(scale) for scale in (2, 3, 4)}}
    tensors_tell = False
    block = r"layers\.(\d+)\.residual_group\.layers\.(\d+)\."
    mark = block + r"attn_atd\."
    computed = r"relative_position_index_SA"
    least = 25

    def infer(self, shapes: Shapes, encoder: bool = False) -> ATDConfig:
        """As `PublishedFamily.infer`."""
        if "conv_before_upsample.0.weight" in shapes:
            raise ForeignError("ATD, the large one")
        first = "layers.0.residual_group.layers.0."
        table = shapes[f"{first}attn_win.relative_position_bias_table"]
        hidden, _, _, kernel = shapes[f"{first}convffn.dwconv.depthwise_conv.0.weight"]
        reduced, dim = shapes[f"{first}attn_atd.wq.weight"]
        return ATDConfig(
            2 if encoder else enlargement(shapes["upsample.0.weight"][0]),
            dim,
            self.depths(shapes),
            table[1],
            window_of(table),
            tokens=shapes["layers.0.residual_group.td"][0],
            reduced=reduced,
            hidden=hidden,
            kernel=kernel,
        )

    def buffers(self, config: ATDConfig) -> dict[str, Tensor]:
        """As `Family.buffers`: an index."""
        return {"relative_position_index_SA": position_index(config.window)}

    def published(self, config: Any, official: dict[str, Tensor]) -> dict[str, Any]:
        """As the authors."""
        return {"params_ema": official}


FAMILY = ATDFamily()
