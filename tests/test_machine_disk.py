"""What disks make of names: here, such as cannot tell A from a."""

import os
from pathlib import Path

import pytest

from esc_sr.errors import UsageError
from esc_sr.machine.disk import name_on_disk
from esc_sr.upscaling.files import find_jobs
from esc_sr.upscaling.names import Names


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> None:
    """All disks find a file by its name in any case."""
    monkeypatch.setattr(os.path, "samefile", lambda a, b: str(a).casefold() == str(b).casefold())


def names(folder: Path) -> set[str]:
    return {
        name_on_disk(folder / name) for name in ("photo.png", "Photo.PNG", "Caf\u00c9.png", "cafe\u0301.png")
    }


def test_a_disk_that_tells_cases_apart(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    if (tmp_path / "X.png").exists():
        pytest.skip("this one does not")
    assert len(names(tmp_path)) == len(names(tmp_path / "new" / "folder")) == 4


@pytest.mark.usefixtures("folding")
def test_a_disk_that_does_not(tmp_path: Path) -> None:
    (tmp_path / "1.2").touch()  # no case to tell
    (tmp_path / "x.png").touch()
    (tmp_path / "7").mkdir()
    assert [len(names(tmp_path / below)) for below in ("", "new/folder", "7")] == [2, 2, 2]


@pytest.mark.usefixtures("folding")
def test_outputs_that_differ_in_case_are_one(tmp_path: Path) -> None:
    for folder, name in (("in", "a.png"), ("more", "A.png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    with pytest.raises(UsageError, match="would both become .*A_2x.png; do one at a time"):
        find_jobs([tmp_path / "in", tmp_path / "more"], f"{tmp_path}/out/", Names())
    (tmp_path / "in" / "A_2X.png").touch()  # an output of an earlier run
    todo = find_jobs([tmp_path / "in"], None, Names(), existing="overwrite")
    assert ([job.source.name for job in todo.jobs], todo.left_out) == (
        ["a.png"],
        [tmp_path / "in" / "A_2X.png"],
    )


@pytest.mark.usefixtures("folding")
def test_a_twin_that_is_only_read_fails_alone(tmp_path: Path) -> None:
    for name in ("A.bmp", "a.png", "c.png"):
        (tmp_path / name).touch()
    todo = find_jobs([tmp_path], f"{tmp_path}/out/", Names())
    assert [job.source.name for job in todo.jobs] == ["a.png", "c.png"]
    assert "A.bmp: would become" in todo.settled[0].reason
