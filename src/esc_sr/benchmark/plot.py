"""PSNR against latency, with bubbles for memory (Figure 1)."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from esc_sr import paper
from esc_sr.errors import UsageError
from esc_sr.figure import check_target, new_figure, save_figure
from esc_sr.record import load

_CONDITIONS = ("backend", "precision", "input", "batch")
"""What each row of `esc-sr benchmark latency` has beside the network, and labels tell where it differs."""


class Point(NamedTuple):
    """A bubble: latency in ms, PSNR in dB, memory in MiB.

    Attributes:
        measured: Whether the PSNR was measured here.
        printed: Whether latency and memory are the paper's.
    """

    label: str
    scale: int
    latency_ms: float
    psnr: float
    memory_mib: float | None
    measured: bool
    printed: bool = False


def printed_points(scales: Iterable[int], test_set: str) -> list[Point]:
    """The points of all methods that Table 2 has at these scales, as it has them."""
    return [
        Point(f"{row.method} x{row.scale}", row.scale, row.latency_ms, psnr[0], row.memory_mib, False, True)
        for row in paper.rows(2)
        if row.scale in scales and row.latency_ms is not None and (psnr := row.scores.get(test_set))
    ]


def points(files: Iterable[Path], test_set: str) -> list[Point]:
    """Join latencies with PSNRs.

    Args:
        files: Documents of `esc-sr benchmark latency`, and of `esc-sr evaluate` for measured PSNRs; where
            there is none for a network, that of Table 2 stands in.
        test_set: For example Urban100.

    Returns:
        A point per row that has a latency and a PSNR.

    Raises:
        UsageError: A file is something else, or there is no such row.
    """
    rows = [row for file in files for row in load(file)["rows"]]
    scores = {
        (row.get("preset") or row["model"], row["scale"]): float(row["psnr_y"])
        for row in rows
        if row.get("psnr_y") is not None and row.get("set") == test_set
    }
    timed = [row for row in rows if row.get("median_ms") and {"model", "scale", *_CONDITIONS} <= row.keys()]
    told_apart = [key for key in _CONDITIONS if len(_values(timed, key)) > 1]
    found = []
    for row in timed:
        key = (row["model"], row["scale"])
        printed = paper.scores(2, *key).get(test_set)
        if key in scores or printed:
            label = " ".join([row["model"], f"x{row['scale']}", *(_text(row[name]) for name in told_apart)])
            psnr = scores[key] if key in scores else printed[0] if printed else 0.0
            costs = row["median_ms"], psnr, row.get("memory_mib")
            found.append(Point(label, row["scale"], *costs, key in scores))
    if not found:
        raise UsageError(
            f"nothing to plot: no latency beside a PSNR on {test_set}; pass the JSON files of "
            "esc-sr benchmark latency and of esc-sr evaluate, or name another --set"
        )
    return found


def plot(
    files: Collection[Path], target: Path, test_set: str = "Urban100", printed: Collection[int] = ()
) -> list[Point]:
    """Draw points into a picture file.

    Args:
        files: Documents, as of `points`.
        target: The picture file.
        test_set: For example Urban100.
        printed: Scales of which the paper's points are drawn as well, or alone where there are no files.

    Returns:
        What was drawn.

    Raises:
        UsageError: As `points`; or the paper has no PSNR on the set, or the file's folder or matplotlib is
            missing, or that writes no such file.
    """
    check_target(target)
    found = points(files, test_set) if files else []
    found += printed_points(printed, test_set)
    if not found:
        raise UsageError(f"nothing to plot: the paper's Table 2 has no PSNR on {test_set} at such a scale")
    figure = new_figure(8, 5)
    axes = figure.subplots()
    colours = {scale: f"C{n}" for n, scale in enumerate(sorted({point.scale for point in found}))}
    for point in found:
        colour = colours[point.scale]
        axes.scatter(
            point.latency_ms,
            point.psnr,
            s=(point.memory_mib or 0) + 20,
            facecolors=colour if point.measured else "none",
            edgecolors=colour,
            linestyles="dotted" if point.printed else "solid",
            linewidths=1.5,
            alpha=0.6,
        )
        axes.annotate(
            point.label,
            (point.latency_ms, point.psnr),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
        )
    axes.set_xlabel("latency, ms")
    axes.set_ylabel(f"PSNR on Y of {test_set}, dB")
    axes.set_xscale("log" if 8 * min(_latencies(found)) < max(_latencies(found)) else "linear")
    axes.set_title(
        "area: memory; filled: PSNR measured, hollow: PSNR of the paper's Table 2, dotted: all of it",
        fontsize="small",
    )
    axes.margins(0.2)
    axes.grid(alpha=0.3)
    save_figure(figure, target)
    return found


def _latencies(found: list[Point]) -> list[float]:
    return [point.latency_ms for point in found]


def _values(rows: list[dict[str, Any]], key: str) -> set[str]:
    """All that rows have under a key."""
    return {_text(row[key]) for row in rows}


def _text(value: Any) -> str:
    """A value as labels show it: sizes as 64x64."""
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
