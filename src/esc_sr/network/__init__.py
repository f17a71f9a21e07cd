"""The networks of the paper; torch only, no files, no devices."""

from esc_sr.network.arbitrary import ESCLTE, LTEConfig, encoder_config
from esc_sr.network.esc import ESC, ESCConfig

__all__ = ["ESC", "ESCLTE", "ESCConfig", "LTEConfig", "encoder_config"]
