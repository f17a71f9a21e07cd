"""The weights inside the package, by name."""

import re
from pathlib import Path
from typing import Any

from esc_sr.errors import WeightsError
from esc_sr.weights.facts import read_card, read_header

FOLDER = Path(__file__).parent / "bundled"

ADVICE = {
    "esc-light": "clean pictures: the default, take this one",
    "esc-light-real": "photos with noise, blur or strong compression",
    "esc-lte": "any scale at once, as x2.5; close to esc-light",
    "esc": "clean pictures; slower than esc-light, not better",
    "esc-real": "as esc-light-real, and slower",
    "esc-fp": "for comparison with the paper; behind esc-light",
}
"""What bundled weights are for, by their name without the scale."""


def family_of(name: str) -> str:
    """The name of bundled weights without their scale."""
    return re.sub(r"-x\d+$", "", name)


def find(name_or_path: str | Path, scale: int | None = None) -> Path:
    """Find the file of a path or a bundled name; where there are both, the path is meant.

    Args:
        name_or_path: A path, or a bundled name with or without its scale ("esc-light-x3", "esc-light").
        scale: Scale for a bundled name without one, 2 by default.

    Returns:
        The file.

    Raises:
        WeightsError: There is neither such a file nor such a bundled name; lists the names.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    names = {file.stem: file for file in sorted(FOLDER.glob("*.safetensors"))}
    for name in (str(name_or_path), f"{name_or_path}-x{scale or 2}"):
        if name in names:
            return names[name]
    wanted = f"{name_or_path} at x{scale}" if scale else str(name_or_path)
    raise WeightsError(f"{wanted}: neither a file nor bundled; bundled are {', '.join(names) or 'none'}")


def bundled_scales(name_or_path: str | Path) -> list[int]:
    """The scales of a bundled name that leaves its scale open, ascending; none for anything else."""
    if Path(name_or_path).is_file():
        return []
    found = (re.fullmatch(re.escape(str(name_or_path)) + r"-x(\d+)", name) for name, _, _ in bundled())
    return sorted(int(match[1]) for match in found if match)


def bundled() -> list[tuple[str, Path, dict[str, Any] | None]]:
    """List the weights inside the package: name, file and training card, sorted by name."""
    return [(path.stem, path, card(path)) for path in sorted(FOLDER.glob("*.safetensors"))]


def card(path: str | Path) -> dict[str, Any] | None:
    """Read what a file tells of its training.

    Args:
        path: A weights file.

    Returns:
        The card, None where there is none, as in everybody's files but ours.

    Raises:
        WeightsError: The file cannot be read.
    """
    return read_card(read_header(Path(path)), Path(path))
