"""BSRN (Li et al., CVPRW 2022)."""

from esc_sr.families.bsrn.network import BSRN, BSRNConfig

__all__ = ["BSRN", "BSRNConfig"]
