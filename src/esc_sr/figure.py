"""Figures as files: matplotlib, where it is installed."""

from pathlib import Path
from typing import TYPE_CHECKING

from esc_sr.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_target(target: Path) -> None:
    """Refuse what no figure can be written to, before anything is computed.

    Raises:
        UsageError: It is a folder, or its folder or matplotlib is missing, or no figure ends so.
    """
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file")
    if not target.parent.is_dir():
        raise UsageError(f"{target}: there is no folder {target.parent}")
    formats = new_figure(1, 1).canvas.get_supported_filetypes()
    if target.suffix.lower().removeprefix(".") not in formats:
        raise UsageError(
            f"{target}: cannot be written: no figure ends in {target.suffix!r}; use .png or .svg"
        )


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, sizes in inches.

    Raises:
        UsageError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError('plots need matplotlib: pip install "esc-sr[plot]"') from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: "Figure", target: Path, dpi: int = 150) -> None:
    """Write a figure as its file's suffix says; the same figure gives the same bytes.

    Raises:
        UsageError: It cannot be written.
    """
    from matplotlib import rc_context

    dated = {"Date": None} if target.suffix.lower() == ".svg" else None
    try:
        with rc_context({"svg.hashsalt": "esc-sr", "svg.fonttype": "none"}):  # the same ids; words as words
            figure.savefig(target, dpi=dpi, metadata=dated)
    except (ValueError, OSError) as error:
        raise UsageError(f"{target}: cannot be written: {error}") from error
