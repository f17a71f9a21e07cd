"""What the card of a run tells of its pictures."""

from pathlib import Path

import pytest

from esc_sr.train.run import _labels


@pytest.mark.parametrize(
    ("roots", "labels"),
    [
        (["a/HR"], ["HR"]),
        (["a/HR", "b/LR"], ["HR", "LR"]),
        (["a/x/HR", "b/x/HR", "c/tiles.tar"], ["a/x/HR", "b/x/HR", "tiles.tar"]),
        (["a/HR", "b/HR", "b/x/HR"], ["a/HR", "b/HR", "x/HR"]),
        (["x/HR", "/d/x/HR"], ["x/HR", "d/x/HR"]),
    ],
)
def test_every_root_has_a_label_of_its_own(roots: list[str], labels: list[str]) -> None:
    assert _labels([Path(root) for root in roots]) == labels
