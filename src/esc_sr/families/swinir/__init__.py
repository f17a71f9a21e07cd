"""SwinIR (Liang et al., ICCVW 2021)."""

from esc_sr.families.swinir.network import SwinIR, SwinIRConfig

__all__ = ["SwinIR", "SwinIRConfig"]
