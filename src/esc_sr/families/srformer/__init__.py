"""SRFormer (Zhou et al., ICCV 2023)."""

from esc_sr.families.srformer.network import SRFormer, SRFormerConfig

__all__ = ["SRFormer", "SRFormerConfig"]
