"""Networks of other families, that the paper compares with or that can teach; torch only.

A new family is a file beside these, and its `FAMILY` in the list.
"""

from esc_sr.peers import bsrn, srvgg
from esc_sr.peers.bsrn import BSRN, BSRNConfig
from esc_sr.peers.family import Family, Peer, PeerConfig
from esc_sr.peers.srvgg import SRVGGConfig, SRVGGNetCompact

__all__ = ["BSRN", "FAMILIES", "BSRNConfig", "Family", "Peer", "PeerConfig", "SRVGGConfig", "SRVGGNetCompact"]

FAMILIES: tuple[Family, ...] = (bsrn.FAMILY, srvgg.FAMILY)
"""In the order in which files are asked whether they are of the family."""
