"""RDN as a family: the names of EDSR-PyTorch, and those of another port, which mmagic has too."""

from collections.abc import Iterable, Mapping

from esc_sr.families.family import Shapes, numbered
from esc_sr.families.parts.upsampling import upsampler_scale
from esc_sr.families.published import PublishedFamily, Rows, expect
from esc_sr.families.rdn.network import RDN, RDNConfig, RDNEncoder


class RDNFamily(PublishedFamily):
    """Told by local feature fusion."""

    kind = "rdn"
    name = "RDN"
    home = "github.com/yulunzhang/RDN (Torch7, no licence); for PyTorch github.com/yjn870/RDN-pytorch (MIT)"
    config = RDNConfig
    network = RDN
    encoder = RDNEncoder
    first = "SFENet1"
    outer = ("scale",)
    presets = {"rdn": {scale: RDNConfig(scale) for scale in (2, 3, 4, 8)}}
    mark = r"RDBs\.\d+\.LFF\."

    def dialects(self, names: Iterable[str]) -> Mapping[str, Rows]:
        """As `PublishedFamily.dialects`."""
        last = 2 * numbered(names, r"upscale\.(\d+)\.")
        return {
            "RDN-pytorch": (
                ("sfe*.*", "SFENet*.*"),
                ("rdbs.*.layers.*.conv.*", "RDBs.*.convs.*.conv.0.*"),
                ("rdbs.*.lff.*", "RDBs.*.LFF.*"),
                ("gff.*.*", "GFF.*.*"),
                ("upscale.*.*", "UPNet.*.*"),
                ("output.*", f"UPNet.{last}.*"),
            )
        }

    def infer(self, shapes: Shapes, encoder: bool = False) -> RDNConfig:
        """As `PublishedFamily.infer`."""
        blocks = numbered(shapes, r"RDBs\.(\d+)\.")
        convs = numbered(shapes, r"RDBs\.0\.convs\.(\d+)\.")
        expect(shapes, 2 * blocks * (convs + 1))
        growth, dim = shapes["RDBs.0.convs.0.conv.0.weight"][:2]
        scale = 2 if encoder else upsampler_scale(shapes, "UPNet.", dim)
        return RDNConfig(scale, dim, growth, blocks, convs)

    def describe(self, config: RDNConfig) -> str:
        """The name, with sizes that are not the published ones."""
        sizes = f" of {config.dim} channels, {config.blocks} blocks of {config.convs} convolutions"
        return f"RDN x{config.scale}{'' if self.variant(config) else sizes}"


FAMILY = RDNFamily()
