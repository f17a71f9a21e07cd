"""Networks that are told and cannot be loaded; a family that can takes its line away."""

import re
from collections.abc import Iterable

FOREIGN = ((r"\.win_mhsa\.", "MambaIRv2"),)
"""A pattern that only the names of their parameters fit, and what they are called."""


def name_foreign(names: Iterable[str]) -> str | None:
    """Name the network that parameter names show and that cannot be loaded."""
    text = "\n".join(names)
    return next((network for pattern, network in FOREIGN if re.search(pattern, text)), None)
