"""MambaIR (Guo et al., ECCV 2024)."""

from esc_sr.families.mambair.network import MambaIR, MambaIRConfig

__all__ = ["MambaIR", "MambaIRConfig"]
