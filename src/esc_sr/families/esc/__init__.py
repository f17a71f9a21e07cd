"""ESC and its variants (Sec. 3)."""

from esc_sr.families.esc.network import ESC, ESCConfig

__all__ = ["ESC", "ESCConfig"]
