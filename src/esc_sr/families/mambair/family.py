"""MambaIR-light as a family; its files have the authors' names alone."""

from esc_sr.families.family import ForeignError, Shapes, enlargement
from esc_sr.families.mambair.network import MambaIR, MambaIRConfig
from esc_sr.families.parts.shell import ShellFamily


class MambaIRFamily(ShellFamily):
    """Told by the decays of its scans."""

    kind = "mambair"
    name = "MambaIR"
    home = "github.com/csguoh/MambaIR (Apache-2.0)"
    config = MambaIRConfig
    network = MambaIR
    presets = {"mambair-light": {scale: MambaIRConfig(scale) for scale in (2, 3, 4)}}
    mark = ShellFamily.block + r"self_attention\.A_logs"
    least = 15

    def infer(self, shapes: Shapes, encoder: bool = False) -> MambaIRConfig:
        """As `PublishedFamily.infer`."""
        depths, block = self.depths(shapes), "layers.0.residual_group.blocks.0."
        if f"{block}conv_blk.cab.4.weight" not in shapes and f"{block}conv_blk.cab.2.weight" in shapes:
            raise ForeignError("MambaIR, the large one")
        channels, dim = shapes["upsample.0.weight"][:2]
        return MambaIRConfig(
            enlargement(channels),
            dim,
            depths,
            shapes[f"{block}self_attention.out_norm.weight"][0],
            shapes[f"{block}self_attention.A_logs"][1],
            shapes[f"{block}self_attention.dt_projs_weight"][2],
            shapes[f"{block}conv_blk.cab.0.weight"][0],
            shapes[f"{block}conv_blk.cab.5.attention.1.weight"][0],
        )


FAMILY = MambaIRFamily()
