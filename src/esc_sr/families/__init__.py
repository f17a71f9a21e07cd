"""The families of networks: ESC, those that the paper compares with, and those that can teach; torch only."""

from esc_sr.families import bsrn, srvgg
from esc_sr.families.contract import Family, Peer, PeerConfig

__all__ = ["FAMILIES", "Family", "Peer", "PeerConfig"]

FAMILIES: tuple[Family, ...] = (bsrn.FAMILY, srvgg.FAMILY)
"""In the order in which files are asked whether they are of the family."""
