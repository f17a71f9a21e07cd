"""ATD (Zhang et al., CVPR 2024)."""

from esc_sr.families.atd.network import ATD, ATDConfig

__all__ = ["ATD", "ATDConfig"]
