"""The paper's tables, spot by spot against the print."""

import pytest

from esc_sr import families, paper
from esc_sr.families.esc.presets import ABLATIONS


def test_a_row_of_table_2() -> None:
    row = paper.row(2, "ESC-lt", 2)
    assert row is not None
    assert row[:7] == (2, "ESC-lt", 2, 73.2, 830, 359.4, 603)
    assert row.scores == {
        "Set5": (38.24, 0.9615),
        "Set14": (33.98, 0.9211),
        "BSD100": (32.35, 0.9020),
        "Urban100": (33.05, 0.9363),
        "Manga109": (39.33, 0.9786),
    }


def test_presets_find_their_rows() -> None:
    assert set(paper.METHODS) <= set(families.presets())
    for preset, method in paper.METHODS.items():
        table = 6 if preset.endswith("-lte") else 3 if preset in ABLATIONS else 2
        assert paper.scores(table, preset, 2) == paper.scores(table, method, 2) != {}
    assert {method for method in paper.METHODS.values()} >= {row.method for row in paper.rows(3)}


def test_what_a_table_does_not_have() -> None:
    assert paper.row(2, "esc-xl", 2) is None
    assert paper.scores(5, "ESC+LTE", 8) == {}
    assert "Manga109" not in paper.scores(2, "ASID-D8", 4)
    with pytest.raises(KeyError):
        paper.rows(1)


def test_tables_are_whole() -> None:
    sizes = {table: len(paper.rows(table)) for table in (2, 3, 4, 5, 6)}
    assert sizes == {2: 42, 3: 9, 4: 12, 5: 32, 6: 20}
    assert paper.scores(4, "esc", 4)["Manga109"] == (31.87, 0.9239)
    assert paper.scores(3, "w/o LK Share", 2)["Urban100"] == (33.43, 0.9392)
    assert paper.scores(5, "esc-lte", 30) == {"DIV2K": (20.64, None)}
    assert paper.scores(6, "esc-lte", 8)["Urban100"] == (23.03, None)


def test_the_figures_of_esc_agree_between_tables() -> None:
    ours = [paper.row(table, "esc", 2) for table in (2, 3, 4)]
    assert len({row[3:7] for row in ours if row}) == 1
    assert {row.scores["Set5"] for row in ours[:2] if row} == {(38.35, 0.9619)}


def test_misprints_are_kept_and_remarked() -> None:
    row = paper.row(2, "esc-fp", 3)
    assert row is not None and row.remark is not None
    assert row.scores["Manga109"][1] == row.scores["Urban100"][1] == 0.8706
    remarked = {(r.table, r.method, r.scale) for t in (2, 3, 4) for r in paper.rows(t) if r.remark}
    assert len(remarked) >= 11


def test_table_1_has_both_ways_of_each_size() -> None:
    cells = {(cost.window, cost.side, cost.flash) for cost in paper.ATTENTION}
    assert len(cells) == len(paper.ATTENTION) == 12
    ratio = [c.latency_ms for c in paper.ATTENTION if (c.window, c.side) == (32, 288)]
    assert ratio[0] / ratio[1] == pytest.approx(16.0, abs=0.1)  # the paper's own "16x"
