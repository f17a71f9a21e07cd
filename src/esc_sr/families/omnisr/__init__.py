"""Omni-SR (Wang et al., CVPR 2023)."""

from esc_sr.families.omnisr.network import OmniSR, OmniSRConfig

__all__ = ["OmniSR", "OmniSRConfig"]
