"""RCAN (Zhang et al., ECCV 2018)."""

from esc_sr.families.rcan.network import RCAN, RCANConfig

__all__ = ["RCAN", "RCANConfig"]
