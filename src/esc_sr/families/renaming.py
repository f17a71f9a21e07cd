"""Tables of parameter names, which the files of authors and ours have for the same tensors."""

import re
from collections.abc import Iterable


def rename(names: Iterable[str], rows: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Map each name by the first row whose pattern it fits.

    Args:
        names: What to map; names that no row fits are left out.
        rows: Pattern and replacement; a star is one part of a name, and the same part of the other.
    """
    compiled = [
        (re.compile(re.escape(pattern).replace(r"\*", r"([^.]+)")), replacement.replace("*", "{}"))
        for pattern, replacement in rows
    ]
    renamed = {}
    for name in names:
        for pattern, replacement in compiled:
            if match := pattern.fullmatch(name):
                renamed[name] = replacement.format(*match.groups())
                break
    return renamed
