"""The authors' parameter names and ours: one table, read in both directions."""

from collections.abc import Iterable

from esc_sr.families.esc.config import ESCConfig
from esc_sr.families.renaming import rename

# Authors' name, our name, and the networks whose names these are (empty: all). A star is one part of a name.
# flat or folded: without or with a PixelUnshuffle in front, which counts as a layer.
# full or decomposed: the large kernel. single or sequence: the upsampler as one layer or as several.
RENAMES = (
    ("plk_filter", "large_kernel.weight", "full"),
    ("lk_channel", "large_kernel.channel", "decomposed"),
    ("lk_spatial", "large_kernel.spatial", "decomposed"),
    ("proj.*", "head.*", "flat"),
    ("proj.1.*", "head.*", "folded"),
    ("skip.0.*", "skip.0.*", "flat"),
    ("skip.1.*", "skip.1.*", "flat"),
    ("skip.3.*", "skip.3.*", "flat"),
    ("skip.1.*", "skip.0.*", "folded"),
    ("skip.2.*", "skip.1.*", "folded"),
    ("skip.4.*", "skip.3.*", "folded"),
    ("blocks.*.ln_proj.*", "blocks.*.norm_in.*", ""),
    ("blocks.*.proj.proj.*", "blocks.*.ffn_in.expand.*", ""),
    ("blocks.*.proj.dwc.*", "blocks.*.ffn_in.dwconv.*", ""),
    ("blocks.*.proj.aggr.*", "blocks.*.ffn_in.project.*", ""),
    ("blocks.*.ln_attn.*", "blocks.*.norm_attn.*", ""),
    ("blocks.*.attn.relative_position_bias", "blocks.*.attn.bias_table", ""),
    ("blocks.*.attn.to_qkv.*", "blocks.*.attn.qkv.*", ""),
    ("blocks.*.attn.to_out.*", "blocks.*.attn.out.*", ""),
    ("blocks.*.lns.*.*", "blocks.*.ffn_norms.*.*", ""),
    ("blocks.*.convffns.*.proj.*", "blocks.*.ffns.*.expand.*", ""),
    ("blocks.*.convffns.*.dwc.*", "blocks.*.ffns.*.dwconv.*", ""),
    ("blocks.*.convffns.*.aggr.*", "blocks.*.ffns.*.project.*", ""),
    ("blocks.*.pconvs.*.plk.dwc_proj.1.*", "blocks.*.convattns.*.estimator.0.*", "full"),
    ("blocks.*.pconvs.*.plk.dwc_proj.3.*", "blocks.*.convattns.*.estimator.2.*", "full"),
    ("blocks.*.pconvs.*.plk.proj.1.*", "blocks.*.convattns.*.estimator.0.*", "decomposed"),
    ("blocks.*.pconvs.*.plk.proj.3.*", "blocks.*.convattns.*.estimator.2.*", "decomposed"),
    ("blocks.*.pconvs.*.aggr.*", "blocks.*.convattns.*.fuse.*", ""),
    ("blocks.*.ln_out.*", "blocks.*.norm_out.*", ""),
    ("blocks.*.conv_out.*", "blocks.*.conv_out.*", ""),
    ("ln_last.*", "norm_last.*", "decomposed"),
    ("last.*", "tail.*", ""),
    ("to_img.*", "upsampler.0.*", "single"),
    ("to_img.*.*", "upsampler.0.*.*", "single"),
    ("to_img.*.*", "upsampler.*.*", "sequence"),
    ("to_img.*.*.*", "upsampler.*.*.*", "sequence"),
)


def traits_of_names(names: Iterable[str]) -> set[str]:
    """Tell from the authors' names which rows of the table they follow."""
    known = set(names)
    one_layer = {"to_img.weight", "to_img.bias", "to_img.init_pos", "to_img.offset.weight"}
    return {
        "folded" if "proj.1.weight" in known else "flat",
        "decomposed" if "lk_channel" in known else "full",
        "single" if known & one_layer else "sequence",
    }


def traits_of_config(config: ESCConfig) -> set[str]:
    """Tell from a network's sizes which rows of the table its names in the authors' code follow."""
    one_layer = config.skip != "conv" or (config.upsampler == "dysampledirect" and config.unshuffle == 1)
    return {
        "folded" if config.unshuffle > 1 else "flat",
        "decomposed" if config.decomposed else "full",
        "single" if one_layer else "sequence",
    }


def to_ours(names: Iterable[str], traits: set[str]) -> dict[str, str]:
    """Map the authors' names to ours; names that the table does not know are left out."""
    return rename(names, [(theirs, ours) for theirs, ours, which in RENAMES if which in {"", *traits}])


def to_official(names: Iterable[str], traits: set[str]) -> dict[str, str]:
    """Map our names to the authors'; names that the table does not know are left out."""
    return rename(names, [(ours, theirs) for theirs, ours, which in RENAMES if which in {"", *traits}])
