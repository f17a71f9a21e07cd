"""Pictures that lie elsewhere: what a path says of a file, an address says of it, through fsspec.

Needs the extra `remote`. Credentials are fsspec's business alone: its configuration, and what the library of
a kind of store finds in the environment. `str` of an `Address` shows no password, and no query.
"""

from esc_sr.remote.address import Address, is_address, parse, shown
from esc_sr.remote.claim import RemoteClaim
from esc_sr.remote.faults import until

__all__ = ["Address", "RemoteClaim", "is_address", "parse", "shown", "until"]
