"""MambaIRv2 (Guo et al., CVPR 2025)."""

from esc_sr.families.mambairv2.network import MambaIRv2, MambaIRv2Config

__all__ = ["MambaIRv2", "MambaIRv2Config"]
