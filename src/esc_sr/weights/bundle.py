"""The weights inside the package, by name."""

import re
from numbers import Real
from pathlib import Path
from typing import Any

from esc_sr.errors import UsageError, WeightsError
from esc_sr.weights.facts import read_card, read_header

FOLDER = Path(__file__).parent / "bundled"

WEAK = "-weak"
"""What the name of weights that take away less noise has more than that of those that they are mixed with."""

ADVICE = {
    "esc-light": "clean pictures: the default, take this one",
    "esc-light-real": "photos with noise, blur or strong compression",
    "esc-light-real-weak": "esc-light-real --denoise 0: keeps more noise",
    "esc-lte": "any scale at once, x2.5 too; near esc-light",
    "esc": "clean pictures; as esc-light, but slower",
    "esc-real": "as esc-light-real, and slower",
    "esc-fp": "to compare with the paper; behind esc-light",
}
"""What bundled weights are for, by their name without the scale."""


def family_of(name: str) -> str:
    """The name of bundled weights without their scale."""
    return re.sub(r"-x\d+$", "", name)


def is_weak(name: str) -> bool:
    """Whether bundled weights are there to be mixed with others."""
    return family_of(name).endswith(WEAK)


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
    names = _names()
    for name in (str(name_or_path), f"{name_or_path}-x{2 if scale is None else scale}"):
        if name in names:
            return names[name]
    wanted = f"{name_or_path} at x{scale}" if scale is not None else str(name_or_path)
    raise WeightsError(f"{wanted}: neither a file nor bundled; bundled are {', '.join(names) or 'none'}")


def files_of(
    name_or_path: str | Path, scale: int | None = None, denoise: float | None = None
) -> tuple[Path, ...]:
    """Find the file of a network, or both files of a mixture.

    Args:
        name_or_path: As of `find`.
        scale: As of `find`; of a mixture the least that is bundled by default.
        denoise: Share of the strong weights, 0..1, in a mixture with the weak ones; None is no mixture.

    Returns:
        One file, at 1 the strong and at 0 the weak one alone; in between the strong and the weak one.

    Raises:
        WeightsError: As `find`.
        UsageError: The share is none, or no weak weights are bundled for that name and scale.
    """
    if denoise is None:
        return (find(name_or_path, scale),)
    if not (isinstance(denoise, Real) and 0 <= denoise <= 1):
        raise UsageError(f"denoise {denoise!r} is no number from 0 to 1")
    pairs, wanted = _pairs(), str(name_or_path)
    scales = bundled_scales(name_or_path, denoise)[:1] if scale is None else [scale]
    names = [] if Path(name_or_path).is_file() else [wanted, *(f"{wanted}-x{one}" for one in scales)]
    found = next((pairs[name] for name in names if name in pairs), None)
    if found is None:
        at = f"{wanted} at x{scale}" if scale else wanted
        known = ", ".join(pairs) or "none"
        raise UsageError(f"{at}: has no weak weights for denoise to mix in; models that have: {known}")
    return {1: found[:1], 0: found[1:]}.get(denoise, found)


def bundled_scales(name_or_path: str | Path, denoise: float | None = None) -> list[int]:
    """The scales of a bundled name that leaves its scale open, ascending; none for anything else.

    Args:
        name_or_path: As of `find`.
        denoise: If given, those of mixtures alone.
    """
    if Path(name_or_path).is_file():
        return []
    names = _names() if denoise is None else _pairs()
    found = (re.fullmatch(re.escape(str(name_or_path)) + r"-x(\d+)", name) for name in names)
    return sorted(int(match[1]) for match in found if match)


def bundled() -> list[tuple[str, Path, dict[str, Any] | None]]:
    """List the weights inside the package: name, file and training card, sorted by name."""
    return [(name, path, card(path)) for name, path in _names().items()]


def _names() -> dict[str, Path]:
    """All bundled files by name, sorted."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}


def _pairs() -> dict[str, tuple[Path, Path]]:
    """The strong and the weak file, by the name of the strong one."""
    names = _names()
    partners = {name: re.sub(r"(-x\d+)?$", rf"{WEAK}\1", name, count=1) for name in names}
    return {name: (names[name], names[weak]) for name, weak in partners.items() if weak in names}


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
