"""ELAN (Zhang et al., ECCV 2022)."""

from esc_sr.families.elan.network import ELAN, ELANConfig

__all__ = ["ELAN", "ELANConfig"]
