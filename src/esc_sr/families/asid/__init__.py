"""ASID (Park et al., AAAI 2025)."""

from esc_sr.families.asid.network import ASID, ASIDConfig

__all__ = ["ASID", "ASIDConfig"]
