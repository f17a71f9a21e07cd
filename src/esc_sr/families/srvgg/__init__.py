"""SRVGGNetCompact (Wang et al. 2021)."""

from esc_sr.families.srvgg.network import SRVGGConfig, SRVGGNetCompact

__all__ = ["SRVGGConfig", "SRVGGNetCompact"]
