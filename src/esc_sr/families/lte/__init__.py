"""LTE, the upsampler to any size, on an encoder (Sec. 4.3)."""

from esc_sr.families.lte.config import LTEConfig, any_size
from esc_sr.families.lte.network import EncoderLTE

__all__ = ["EncoderLTE", "LTEConfig", "any_size"]
