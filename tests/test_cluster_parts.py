"""What a run over a cluster is made of, without Ray: how nodes are parted, what is written down and found."""

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from esc_sr import weights
from esc_sr.cli.main import app
from esc_sr.cluster import address
from esc_sr.cluster.enlarging import Enlarged, Enlarging, NetworkChoice
from esc_sr.cluster.index import Index, Known
from esc_sr.cluster.listing import OTHER, PICTURE, PROBLEM, Rules, examine, walk
from esc_sr.cluster.manifest import Manifest
from esc_sr.cluster.nodes import BESIDE, Wish, share
from esc_sr.cluster.work import Given, Wants, WorkerMeans
from esc_sr.errors import DeviceError, ImageError
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.image import Picture, write_image
from esc_sr.upscaling.batch import Choices
from esc_sr.upscaling.files import Job
from esc_sr.upscaling.names import Names
from pictures import noise

GIB = 2**30


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    weights.save(ESC(ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)), path)
    return path


@pytest.mark.parametrize(
    ("cores", "gpus", "gib", "wish", "workers", "threads", "memory"),
    [
        (16, 0, 100, Wish(), 4, 4, 17.5),
        (2, 0, 100, Wish(), 1, 2, 70),
        (16, 0, 10, Wish(), 3, 4, 7 / 3),
        (16, 0, 100, Wish(threads=1), 16, 1, 4.375),
        (16, 0, 100, Wish(memory=20 * GIB), 3, 4, 21),
        (16, 0, 10, Wish(memory=20 * GIB), 0, 4, 21),
        (32, 4, 400, Wish(), 4, 4, 70),
        (4, 4, 400, Wish(), 4, 1, 70),
        (32, 4, 400, Wish(device="cpu"), 8, 4, 35),
        (0, 0, 400, Wish(), 0, 0, 280),
        (16, 0, 100, Wish(device="cuda"), 0, 4, 70),
    ],
)
def test_nodes_are_parted_by_gpus_cores_and_memory(
    cores: int, gpus: int, gib: int, wish: Wish, workers: int, threads: int, memory: float
) -> None:
    found = share({"CPU": float(cores), "GPU": float(gpus), "memory": gib * GIB}, wish)
    assert (found.workers, found.means.threads) == (workers, threads)
    assert found.memory == pytest.approx(memory * GIB)
    assert found.means.memory == found.memory - BESIDE
    assert found.workers * found.memory <= 0.7 * gib * GIB
    assert found.means.device == ("auto" if found.gpus else "cpu")


def test_a_large_picture_wants_the_memory_of_neighbours(tiny: Path, tmp_path: Path) -> None:
    write_image(Picture(noise(200, 200, 3)), tmp_path / "a.png")
    job = Job(tmp_path / "a.png", tmp_path / "b.png")
    enlarging = Enlarging(NetworkChoice(str(tiny), None), Choices())
    enlarging.prepare(WorkerMeans(1, "cpu", 4 * 2**20))
    wanted = enlarging.do(job, Given(1, 8, False))
    assert isinstance(wanted, Wants) and 1 < wanted.shares < 8
    assert not job.target.is_file()
    done = enlarging.do(job, Given(wanted.shares, 8, False))
    assert isinstance(done, Enlarged) and done.outcome.status == "done"


def test_a_picture_that_was_done_before_its_worker_died_is_done(tiny: Path, tmp_path: Path) -> None:
    write_image(Picture(noise(8, 9, 3)), tmp_path / "a.png")
    job = Job(tmp_path / "a.png", tmp_path / "b.png")
    enlarging = Enlarging(NetworkChoice(str(tiny), None), Choices())
    enlarging.prepare(WorkerMeans(1, "cpu", GIB))
    first = enlarging.do(job, Given(1, 1, False))
    again = enlarging.do(job, Given(1, 1, True))
    assert isinstance(first, Enlarged) and isinstance(again, Enlarged)
    assert again.outcome._replace(seconds=0) == first.outcome._replace(seconds=0)
    assert again.sha256 == first.sha256 is not None
    refused = enlarging.do(job, Given(1, 1, False))
    assert isinstance(refused, Enlarged) and refused.outcome.status == "failed"


def test_what_a_killed_run_finished_gets_its_row_from_the_next(tmp_path: Path) -> None:
    jobs = [Job(Path(f"{name}.png"), tmp_path / f"{name}_2x.png") for name in "abc"]
    with (
        pytest.raises(KeyboardInterrupt),
        Index() as index,
        Manifest(tmp_path, index, {"model": "m"}, "5") as first,
    ):
        first.begin(jobs)
        first.add([{"source": "a.png", "target": "a_2x.png", "status": "done", "sha256": "5"}])
        for name in "ab":
            write_image(Picture(noise(4, 6, 3)), tmp_path / f"{name}_2x.png")
        raise KeyboardInterrupt
    with first.path.open("ab") as file:
        file.write(b'{"source": "c.png", "tar')  # the machine went down
    with Index() as index, Manifest(tmp_path, index, {"model": "n"}, "6"):
        assert index.row("b_2x.png") == Known("done", "5")
        assert index.row("c_2x.png") is None
    found = [path for path in tmp_path.glob("manifest-*.jsonl") if path != first.path]
    assert len(found) == 1
    row = json.loads(found[0].read_text())
    assert (row["source"], row["target"], row["status"], row["sha256"]) == ("b.png", "b_2x.png", "done", "5")
    assert (row["model"], row["target_size"]) == ("m", [6, 4])
    assert not list(tmp_path.glob(".esc-sr-*"))
    with Index() as index, Manifest(tmp_path, index, {}, None):
        assert index.row("a_2x.png") == Known("done", "5")
    assert len(list(tmp_path.glob("manifest-*.jsonl"))) == 2  # one without rows does not stay


def test_what_a_killed_run_was_to_replace_is_not_taken_for_its_own(tmp_path: Path) -> None:
    write_image(Picture(noise(4, 6, 3)), tmp_path / "old_2x.png")
    jobs = [Job(Path(f"{name}.png"), tmp_path / f"{name}_2x.png") for name in ("old", "new")]
    with (
        pytest.raises(KeyboardInterrupt),
        Index() as index,
        Manifest(tmp_path, index, {}, "5") as killed,
    ):
        killed.begin(jobs)
        write_image(Picture(noise(4, 6, 3)), tmp_path / "new_2x.png")
        raise KeyboardInterrupt
    with Index() as index, Manifest(tmp_path, index, {}, "6"):
        assert (index.row("old_2x.png"), index.row("new_2x.png")) == (None, Known("done", "5"))


def test_what_another_run_has_begun_is_left_to_it(tmp_path: Path) -> None:
    with Index() as index, Manifest(tmp_path, index, {}, None) as first:
        first.begin([Job(Path("a.png"), tmp_path / "a_2x.png")])
        write_image(Picture(noise(4, 6, 3)), tmp_path / "a_2x.png")
        with Index() as other, Manifest(tmp_path, other, {}, None):
            assert other.row("a_2x.png") is None
        assert list(tmp_path.glob(".esc-sr-*.begun"))


def test_an_output_belongs_to_the_first_input() -> None:
    with Index() as index:
        assert index.take([(b"x", b"a"), (b"y", b"b"), (b"x", b"c")]) == [None, None, b"a"]
        assert index.take([(b"y", b"b")]) == [b"b"]
        index.add([("t", Known("done", "1")), ("t", Known("failed", None)), ("u", Known("failed", None))])
        index.add([("u", Known("done", "2"))])
        assert (index.row("t"), index.row("u")) == (Known("done", "1"), Known("done", "2"))
        index.add([("t", Known("done", "3")), ("t", Known("failed", None))])  # of other weights
        assert index.row("t") == Known("done", "3")


def test_a_disk_that_is_full_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    full: list[Callable[[Index], object]] = [
        lambda index: index.take([(b"%d" % number * 99, b"a") for number in range(999)]),
        lambda index: index.add((f"{number}" * 99, Known("done", "1")) for number in range(999)),
    ]
    for fill in full:
        with (
            Index() as index,
            pytest.raises(ImageError, match=r"cannot be written \(database or disk is full\); set TMPDIR"),
        ):
            index._base.execute("PRAGMA max_page_count = 3")
            fill(index)
    monkeypatch.setattr("esc_sr.cluster.index.scratch_folder", lambda: Path("none"))
    with pytest.raises(ImageError, match="cannot be written .*No such file or directory"):
        Index()


def test_the_walk_finds_what_a_run_here_finds(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "in" / "out"
    (folder / "sub").mkdir(parents=True)
    out.mkdir()
    for name in ("b.png", "sub/a.bmp", "out/old.png"):
        (folder / name).touch()
    write_image(Picture(noise(4, 6, 3)), folder / "sub" / "c.png")
    (folder / "x.txt").touch()
    found = list(walk([folder, tmp_path / "none"], out))
    assert [entry[0] for entry in found] == [PICTURE, OTHER, PICTURE, PICTURE, PROBLEM]
    rules = Rules(out, Names(), None, "skip")
    listed = [examine(entry, rules) for entry in found if entry[0] == PICTURE]
    assert [(os.path.relpath(str(x.job.target), out), x.pixels) for x in listed] == [
        ("b_2x.png", 0),
        ("sub/a_2x.png", 0),
        ("sub/c_2x.png", 24),
    ]
    (out / "b_2x.png").touch()
    again = examine(next(entry for entry in found if entry[0] == PICTURE), rules)
    assert again.outcome.status == "skipped"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "-o", "out", "--cluster", "ray://127.0.0.1:1"], "127.0.0.1:1: no Ray cluster answers"),
        (["a.png", "-o", "out", "--cluster", "spark"], "--cluster spark: say ray, or ray://HOST:PORT"),
        (["a.png", "--cluster", "ray"], "--cluster needs files or folders as inputs, and -o FOLDER"),
        (
            ["a.png", "-o", "", "--cluster", "ray"],
            "--cluster needs files or folders as inputs, and -o FOLDER",
        ),
        (["-", "-o", "out", "--cluster", "ray"], "--cluster needs files or folders as inputs, and -o FOLDER"),
        ([".", "-o", "out", "--watch", "--cluster", "ray"], "--watch and --cluster exclude each other"),
        (["a.png", "-o", "none/out", "--cluster", "ray"], "none: no such folder"),
        (["a.png", "-o", "out", "--name", "{x}", "--cluster", "ray://127.0.0.1:1"], "no field is called 'x'"),
        (["out/b.png", "-o", "out", "--cluster", "ray"], "lies in the folder of the outputs"),
        (["a.png", "-o", "out", "--cluster", "ray", "--device", "cuda:1"], "each worker has its own GPU"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    for name in ("a.png", "out/b.png"):
        write_image(Picture(noise(4, 6, 3)), name)
    result = CliRunner().invoke(app, ["upscale", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_a_cluster_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(address, "PATIENCE", 0.3)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(DeviceError, match="no Ray cluster answers; .*(waited 0 s)"),
        address.connected(f"ray://127.0.0.1:{silent.getsockname()[1]}"),
    ):
        pass


def test_a_cluster_that_has_gone_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert address._noted() is None
    note = tmp_path / "ray/ray_current_cluster"
    note.parent.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as alive:
        note.write_text(place := f"127.0.0.1:{alive.getsockname()[1]}")
        assert address._noted() == place
    assert address._noted() is None


def test_the_cluster_of_another_run_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    begun: list[str] = []

    def init(place: str, **named: object) -> None:
        begun.append(place)

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr(address, "_ask", lambda place: None)
    with address.connected("ray"):
        pass
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with address.connected("ray"):
        pass
    assert begun == ["local", "10.0.0.1:6379"]


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    write_image(Picture(noise(4, 6, 3)), tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    result = CliRunner().invoke(
        app, ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--cluster", "ray"]
    )
    assert result.exit_code == 2
    assert "pip install 'esc-sr[cluster]'" in result.stderr


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Index() as index, pytest.raises(ImageError, match="file: cannot be written to"):
        Manifest(tmp_path / "file", index, {}, None)
