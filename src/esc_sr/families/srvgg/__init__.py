"""SRVGGNetCompact (Wang et al. 2021)."""

from esc_sr.families.srvgg.network import FAMILY, SRVGGConfig, SRVGGNetCompact

__all__ = ["FAMILY", "SRVGGConfig", "SRVGGNetCompact"]
