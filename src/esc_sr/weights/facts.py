"""What our files tell of themselves, without torch and without reading a tensor."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esc_sr.errors import WeightsError


def read_header(path: Path) -> dict[str, str]:
    """Read the metadata of a .safetensors file; empty where there is none or the file is of another kind."""
    try:
        with open(path, "rb") as file:
            start = file.read(9)
            if start[8:] != b"{":
                return {}
            length = min(int.from_bytes(start[:8], "little"), path.stat().st_size)
            header = json.loads(b"{" + file.read(length - 1))
        return dict(header.get("__metadata__") or {})
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read ({first_line(error)})") from error


def read_card(facts: Mapping[str, str], path: Path) -> dict[str, Any] | None:
    """Read the training card from the header of one of our files, None where there is none.

    Raises:
        WeightsError: The card is damaged.
    """
    if "format" not in facts or "card" not in facts:
        return None
    try:
        card = json.loads(facts["card"])
        if not isinstance(card, dict):
            raise ValueError("no JSON object")
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path}: its card cannot be read ({error}); fetch it again") from error
    return card


def first_line(error: Exception) -> str:
    """The first line of an error's message, at most 200 letters of it, or its name where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
