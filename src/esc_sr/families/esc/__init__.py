"""ESC and its variants (Sec. 3)."""

from esc_sr.families.esc.config import ESCConfig
from esc_sr.families.esc.network import ESC

__all__ = ["ESC", "ESCConfig"]
