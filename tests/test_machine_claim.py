"""Claims to files: one process at a time, whatever becomes of it."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import esc_sr
from esc_sr.machine.claim import Claim, clear_remains, whole_file

OWNER = """
import sys
from esc_sr.machine.claim import Claim
claim = Claim("a.png")
claim.part.write(b"half")
claim.part.flush()
print("claimed", flush=True)
sys.stdin.read()
"""


def owner(folder: Path) -> "subprocess.Popen[str]":
    """Another process, which has claimed a.png and written something."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(esc_sr.__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "claimed\n"
    return process


def put(path: Path, content: bytes, overwrite: bool = False) -> None:
    with closing(Claim(path)) as claim:
        claim.part.write(content)
        claim.part.flush()
        claim.publish(overwrite)


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    process = owner(tmp_path)
    for _ in range(2):  # to have failed changes nothing
        with pytest.raises(BlockingIOError, match="another run is writing it"):
            Claim(tmp_path / "a.png")
    assert len(os.listdir(tmp_path)) == 1
    put(tmp_path / "b.png", b"other")
    process.kill()
    process.communicate(timeout=60)
    assert sorted(os.listdir(tmp_path))[1:] == ["b.png"]  # and what is left of a.png
    put(tmp_path / "a.png", b"whole")
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]
    assert (tmp_path / "a.png").read_bytes() == b"whole"


def test_one_that_was_killed_between_its_two_names_is_not_written_over(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    claim = Claim(tmp_path / "a.png")
    claim.part.write(b"published")
    (part,) = tmp_path.iterdir()
    os.link(part, tmp_path / "a.png")
    claim.part.close()  # all that is left of the process
    with closing(Claim(tmp_path / "a.png")) as claim:
        assert (tmp_path / "a.png").read_bytes() == b"published"
        claim.part.write(b"new")
    assert os.listdir(tmp_path) == ["a.png"]


def part_of(path: Path) -> Path:
    """The hidden file of a claim."""
    with closing(Claim(path)):
        (part,) = path.parent.glob(".esc-sr-*.part")
    return part


def test_what_was_left_beside_a_finished_file_is_cleared(tmp_path: Path) -> None:
    path, part = tmp_path / "a.png", part_of(tmp_path / "a.png")
    put(path, b"published")
    os.link(path, part)  # killed between the two names
    clear_remains(path)
    clear_remains(tmp_path / "b.png")
    assert os.listdir(tmp_path) == ["a.png"] and path.read_bytes() == b"published"
    with closing(Claim(path)):
        clear_remains(path)
        assert part.exists()  # somebody is writing it
    part.mkdir()
    clear_remains(path)
    with pytest.raises(OSError, match="directory|not permitted"):
        Claim(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
def test_pipes_and_links_in_its_place_are_removed(tmp_path: Path) -> None:
    path, part = tmp_path / "a.png", part_of(tmp_path / "a.png")
    os.mkfifo(part)
    put(path, b"first")
    part.symlink_to(path)
    put(path, b"second", overwrite=True)
    assert os.listdir(tmp_path) == ["a.png"] and path.read_bytes() == b"second"


def test_where_open_files_keep_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which knows no removal and no new name of a file that is open."""
    opened = Path("/proc/self/fd")
    if not opened.is_dir():
        pytest.skip("this system does not tell which files are open")
    unlink, replace, os_unlink = Path.unlink, os.replace, os.unlink

    def require_closed(path: Path) -> None:
        for number in os.listdir(opened):
            if os.path.exists(path) and os.path.exists(opened / number):
                assert not os.path.samefile(path, opened / number), path

    def checked(call: Callable[..., None]) -> Callable[..., None]:
        def then(path: Path, *more: Any, **options: Any) -> None:
            require_closed(path)
            call(path, *more, **options)

        return then

    for name, call in (("pathlib.Path.unlink", unlink), ("os.replace", replace), ("os.unlink", os_unlink)):
        monkeypatch.setattr(name, checked(call))
    monkeypatch.setattr("esc_sr.machine.claim._KEEPS_OPEN_FILES", True)
    test_a_name_is_taken_once(tmp_path)
    (tmp_path / "a.png").unlink()
    test_a_claim_given_up_leaves_nothing(tmp_path)
    part_of(tmp_path / "a.png").write_bytes(b"half")  # killed
    put(tmp_path / "a.png", b"whole")
    assert os.listdir(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"whole"


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    put(tmp_path / "a.png", b"first")
    with pytest.raises(FileExistsError):
        put(tmp_path / "a.png", b"second")
    assert (tmp_path / "a.png").read_bytes() == b"first"
    put(tmp_path / "a.png", b"third", overwrite=True)
    assert (tmp_path / "a.png").read_bytes() == b"third"
    assert os.listdir(tmp_path) == ["a.png"]


def refuse(*arguments: object) -> None:
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize("missing", ["os.link", "fcntl.flock"])
def test_disks_without_links_or_locks(tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcntl")
    monkeypatch.setattr(missing, refuse)
    test_a_name_is_taken_once(tmp_path)
    if missing == "fcntl.flock":
        with closing(Claim(tmp_path / "a.png")), closing(Claim(tmp_path / "a.png")):
            assert len(os.listdir(tmp_path)) == 3
        assert os.listdir(tmp_path) == ["a.png"]


def test_a_claim_given_up_leaves_nothing(tmp_path: Path) -> None:
    claim = Claim(tmp_path / "a.png")
    claim.part.write(b"half")
    for _ in range(2):
        claim.close()
    assert os.listdir(tmp_path) == []
    with pytest.raises(OSError, match="No such file"):
        Claim(tmp_path / "no" / "a.png")


def test_a_whole_file_takes_the_place_of_another(tmp_path: Path) -> None:
    path, before = tmp_path / "last", tmp_path / "previous"
    for content in (b"first", b"second", b"third"):
        with whole_file(path, before) as file:
            file.write(content)
            assert not path.exists() or path.read_bytes() < content
    assert (path.read_bytes(), before.read_bytes()) == (b"third", b"second")
    with pytest.raises(ZeroDivisionError), whole_file(path, before) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert (path.read_bytes(), before.read_bytes()) == (b"third", b"second")
    assert sorted(os.listdir(tmp_path)) == ["last", "previous"]


def test_of_two_that_write_a_whole_file_the_last_one_stays(tmp_path: Path) -> None:
    process = owner(tmp_path)
    with whole_file(tmp_path / "a.png") as file:
        file.write(b"mine")
        with whole_file(tmp_path / "a.png") as other:
            other.write(b"other")
        assert (tmp_path / "a.png").read_bytes() == b"other"
    assert (tmp_path / "a.png").read_bytes() == b"mine"
    process.kill()
    process.communicate(timeout=60)
    with whole_file(tmp_path / "a.png") as file:
        file.write(b"whole")
    assert os.listdir(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"whole"
