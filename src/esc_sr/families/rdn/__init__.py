"""RDN (Zhang et al., CVPR 2018)."""

from esc_sr.families.rdn.network import RDN, RDNConfig

__all__ = ["RDN", "RDNConfig"]
