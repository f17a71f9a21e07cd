"""Sheets of results: what is measured and shown, and where."""

from pathlib import Path

import numpy as np
import pytest

from esc_sr.analysis import sheets
from esc_sr.analysis.sheets import Cut, Shown, Subject
from esc_sr.bicubic import downscale
from esc_sr.errors import UsageError
from esc_sr.evaluate.run import find_method
from esc_sr.evaluate.scores import bicubic, score

HR = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
LR = downscale(HR, 2)


def test_a_result_is_measured_as_evaluate_does() -> None:
    shown = sheets.measure(find_method("bicubic", 2), LR, HR, 2)
    assert np.array_equal(shown.pixels, bicubic(LR, 2))
    assert (shown.psnr, shown.ssim) == score(bicubic(LR, 2), HR, 2)
    assert sheets.measure(find_method("bicubic", 2), LR, None, 2)[1:] == (None, None)


def test_a_sheet_shows_all_in_order_and_the_best_in_bold(tmp_path: Path) -> None:
    results = {"first": Shown(HR, 30.0, 0.8), "second": Shown(255 - HR, 31.0, 0.7)}
    cuts = [Cut(4, 10, 20, 30), Cut(30, 40, 10, 12)]
    subjects = [Subject("a", LR, HR, results, cuts), Subject("b", LR, None, {"first": Shown(HR)}, cuts[:1])]
    figure = sheets.draw(subjects, 2)
    figure.savefig(tmp_path / "a.png")
    axes = [one for one in figure.axes if one.images]
    words = [one.get_xlabel() for one in axes]
    first = ["LR\nPSNR / SSIM", "first\n30.00 / 0.8000", "second\n31.00 / 0.7000", "HR\n"]
    assert words == ["a\nLR 40 x 30 px", *first, *first, "b\nLR 40 x 30 px", "LR", "first"]
    assert [str(one.xaxis.label.get_fontweight()) for one in axes[1:5]] == [
        "normal",
        "normal",
        "bold",
        "normal",
    ]
    panels = [np.asarray(one.images[0].get_array()) for one in axes]
    assert np.array_equal(panels[0], HR)
    assert np.array_equal(panels[1], LR.repeat(2, 0).repeat(2, 1)[4:24, 10:40])
    assert np.array_equal(panels[3], 255 - HR[4:24, 10:40])
    assert np.array_equal(panels[8], HR[30:40, 40:52])
    frames = [line.get_xydata() for line in axes[0].lines]
    assert [np.ptp(np.asarray(frame), axis=0).tolist() for frame in frames] == [[30, 20], [12, 10]]


def test_cuts_lie_where_results_differ() -> None:
    other = HR.copy()
    other[31:47, 50:66] ^= 255
    assert sheets.differing_cut([HR, other], 16) == Cut(31, 50, 16, 16)
    assert sheets.differing_cut([HR, other], 100) == Cut(0, 0, 60, 80)


@pytest.mark.parametrize("cut", [Cut(-1, 0, 5, 5), Cut(0, 0, 61, 5), Cut(0, 76, 5, 5), Cut(0, 0, 0, 5)])
def test_cuts_outside_are_refused(cut: Cut) -> None:
    with pytest.raises(UsageError, match="is not inside the enlarged picture of 80 x 60 px"):
        sheets.check_cut(cut, HR.shape)
