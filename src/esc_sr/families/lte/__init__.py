"""LTE, the upsampler to any size, on an encoder (Sec. 4.5)."""

from esc_sr.families.lte.network import ESCLTE, LTEConfig, encoder_config

__all__ = ["ESCLTE", "LTEConfig", "encoder_config"]
