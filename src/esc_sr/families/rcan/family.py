"""RCAN as a family: the names of its authors, who have them from EDSR, and those of BasicSR."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from esc_sr.families.family import Shapes, numbered
from esc_sr.families.parts.mean import shift
from esc_sr.families.parts.upsampling import upsampler_scale
from esc_sr.families.published import PublishedFamily, Rows, expect
from esc_sr.families.rcan.network import RCAN, WHITE, RCANConfig


def _basicsr(groups: int, blocks: int) -> Rows:
    """BasicSR's names and ours, of a network of so many groups and blocks in each."""
    theirs, ours = "body.*.residual_group.*.rcab.", "body.*.body.*.body."
    return (
        ("conv_first.*", "head.0.*"),
        (f"{theirs}3.attention.1.*", f"{ours}3.conv_du.0.*"),
        (f"{theirs}3.attention.3.*", f"{ours}3.conv_du.2.*"),
        (f"{theirs}*.*", f"{ours}*.*"),
        ("body.*.conv.*", f"body.*.body.{blocks}.*"),
        ("conv_after_body.*", f"body.{groups}.*"),
        ("upsample.*.*", "tail.0.*.*"),
        ("conv_last.*", "tail.1.*"),
    )


class RCANFamily(PublishedFamily):
    """Told by channel attention inside blocks inside groups."""

    kind = "rcan"
    name = "RCAN"
    home = "github.com/yulunzhang/RCAN (no licence)"
    config = RCANConfig
    network = RCAN
    presets = {"rcan": {scale: RCANConfig(scale) for scale in (2, 3, 4, 8)}}
    mark = r"body\.\d+\.body\.\d+\.body\.3\.conv_du\."

    def dialects(self, names: Iterable[str]) -> Mapping[str, Rows]:
        """As `PublishedFamily.dialects`."""
        groups = numbered(names, r"body\.(\d+)\.")
        return {"BasicSR": _basicsr(groups, numbered(names, r"body\.0\.residual_group\.(\d+)\."))}

    def infer(self, shapes: Shapes, encoder: bool = False) -> RCANConfig:
        """As `PublishedFamily.infer`."""
        groups = numbered(shapes, r"body\.(\d+)\.") - 1
        blocks = numbered(shapes, r"body\.0\.body\.(\d+)\.") - 1
        expect(shapes, groups * blocks * 8)
        dim = shapes["head.0.weight"][0]
        inner = shapes["body.0.body.0.body.3.conv_du.0.weight"][0]
        return RCANConfig(upsampler_scale(shapes, "tail.0.", dim), dim, groups, blocks, inner)

    def constants(self, config: RCANConfig) -> dict[str, Tensor]:
        """The mean colour, which BasicSR has in its code."""
        found = {}
        for name, sign in (("sub_mean", -1), ("add_mean", 1)):
            found[f"{name}.weight"], found[f"{name}.bias"] = shift(sign, WHITE)
        return found

    def describe(self, config: RCANConfig) -> str:
        """The name, with sizes that are not the published ones."""
        sizes = f" of {config.dim} channels, {config.groups} groups of {config.blocks} blocks"
        return f"RCAN x{config.scale}{'' if self.variant(config) else sizes}"


FAMILY = RCANFamily()
