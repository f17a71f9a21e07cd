"""HiT-SRF (Zhang et al., ECCV 2024)."""

from esc_sr.families.hit_srf.network import HiTSRF, HiTSRFConfig

__all__ = ["HiTSRF", "HiTSRFConfig"]
