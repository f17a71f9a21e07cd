"""Who gets which work, and what becomes of that of the dead: with a Ray in this process."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from esc_sr import weights
from esc_sr.cluster import pool as module
from esc_sr.cluster import scores
from esc_sr.cluster.nodes import Wish
from esc_sr.cluster.pool import Done, Failed, Piece, Pool
from esc_sr.cluster.work import Given, Wants, WorkerMeans
from esc_sr.data.sets import find_set
from esc_sr.errors import DeviceError, ImageError, UsageError
from esc_sr.evaluate.run import ScoreRow, find_methods, run
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.image import Picture, write_image
from pictures import noise
from pretend_ray import Dies, Ray, RayError

pytest.importorskip("ray")


class Doing:
    """Gives what it is told to, and keeps what it was given."""

    def __init__(self, dies: dict[str, int] | None = None, wants: dict[str, int] | None = None) -> None:
        self.dies, self.wants = dict(dies or {}), wants or {}
        self.begun: list[tuple[str, Given]] = []

    def prepare(self, means: WorkerMeans) -> Any:
        if self.dies.get("prepare", 0):
            self.dies["prepare"] -= 1
            raise Dies
        return "same"

    def do(self, item: str, given: Given) -> Any:
        self.begun.append((item, given))
        if self.wants.get(item, 1) > given.shares and given.shares < given.most:
            return Wants(self.wants[item])
        if self.dies.get(item, 0):
            self.dies[item] -= 1
            raise Dies
        if item == "bad":
            raise ImageError("bad: is bad")
        return item.upper()


def do(ray: Ray, work: Any, items: str, **piece: Any) -> tuple[list[Done], list[str]]:
    notes: list[str] = []
    with Pool(ray, work, Wish(threads=1), notes.append) as pool:
        assert pool.wait() == "same"
        return list(pool.run(Piece(item, **piece) for item in items.split())), notes


def test_everything_is_done_once() -> None:
    work = Doing()
    ray = Ray(2, 1)
    done, notes = do(ray, work, "a b c d e f g h i bad")
    assert sorted(str(one.result) for one in done if not isinstance(one.result, Failed)) == list("ABCDEFGHI")
    assert [one.result for one in done if isinstance(one.result, Failed)] == [Failed("bad: is bad")]
    assert [item for item, _ in work.begun] == sorted("abcdefghi") + ["bad"]
    assert not notes
    assert ray.together == 6
    assert [asked["num_cpus"] for asked in ray.asked] == [1, 1, 1]
    assert ray.asked[0]["memory"] * 2 <= 0.7 * 100 * 2**30


def test_what_dies_once_is_done_again_alone_and_twice_has_failed() -> None:
    work = Doing({"once": 1, "twice": 2})
    done, notes = do(Ray(1, 1), work, "a once b twice c d")
    results = {one.item: one.result for one in done}
    failed = results.pop("twice")
    assert (
        isinstance(failed, Failed) and "its worker died, and so did that of the second try" in failed.reason
    )
    assert results == {item: item.upper() for item in ("a", "once", "b", "c", "d")}
    assert len(done) == 6 and len(notes) == 3
    assert [given.again for item, given in work.begun if item == "once"] == [False, True]
    assert [given.again for item, given in work.begun if item == "twice"] == [False, True]


def test_a_large_piece_has_the_memory_of_idle_neighbours() -> None:
    work = Doing(wants={"big": 3, "huge": 99})
    done, _ = do(Ray(4, 1), work, "a big b huge c")
    assert sorted(one.result for one in done) == sorted(["A", "BIG", "B", "HUGE", "C"])
    given = {item: (given.shares, given.most) for item, given in work.begun}
    assert given == {"a": (1, 4), "b": (1, 4), "c": (1, 4), "big": (3, 4), "huge": (4, 4)}


def test_alone_means_one_at_a_time() -> None:
    ray = Ray(1, 1)
    do(ray, Doing(), "a b c d e", alone=True)
    assert ray.together == 2


def test_a_node_that_leaves_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0)
    ray = Ray(1, 1)
    work = Doing()
    with Pool(ray, work, Wish(threads=1)) as pool:
        pool.wait()
        found = pool.run(Piece(str(item)) for item in range(20))
        done = [next(found)]
        ray.alive[1]["Alive"] = False
        for worker in pool._nodes[ray.alive[1]["NodeID"]].workers:
            worker.actor.die()
        done += list(found)
    assert sorted(int(one.item) for one in done) == list(range(20))
    assert {one.node for one in done[5:]} == {"10.0.0.0"}
    assert len(ray.asked) == 2


@pytest.mark.parametrize("known", [True, False])
def test_idle_workers_leave_with_their_node(known: bool) -> None:
    ray, work = Ray(3, 1), Doing()
    with Pool(ray, work, Wish(threads=1)) as pool:
        while not all(worker.ready for worker in pool._workers()):
            list(pool._landed())
        assert pool._assign(iter([Piece("a")])) is False
        gone, left = (node["NodeID"] for node in ray.alive)
        ray.alive[0]["Alive"] = not known  # Ray may need some time to tell
        for worker in pool._nodes[gone].workers:
            worker.actor.die()
        assert [(done.result, done.node) for done in pool.run(iter(()))] == [("A", "10.0.0.1")]
        if known:
            assert [worker.node for worker in pool._workers()] == [left]


def test_a_cluster_without_gpus_has_no_workers_on_them() -> None:
    with pytest.raises(DeviceError, match="no node of the cluster has the GPU, the cores and the memory"):
        Pool(Ray(1, 2), Doing(), Wish(device="cuda"))
    ray = Ray(8, 2)
    ray.alive[1]["Resources"]["GPU"] = 1.0
    with Pool(ray, Doing(), Wish(device="cuda")) as pool:
        assert [worker.node for worker in pool._workers()] == [ray.alive[1]["NodeID"]]


def test_workers_that_do_not_begin_end_the_run() -> None:
    with pytest.raises(DeviceError, match="no worker is left in the cluster"):
        do(Ray(1), Doing({"prepare": 9}), "a")
    done, notes = do(Ray(1), Doing({"prepare": 1}), "a")
    assert done[0].result == "A" and len(notes) == 1
    with pytest.raises(DeviceError, match="no node of the cluster has the cores and the memory"):
        do(Ray(0), Doing(), "a")


def test_a_node_without_esc_sr_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(ray: Ray, call: Any) -> Any:
        said = "The actor died because of an error raised in its creation task, ray::Member\n"
        raise RayError(said + "ModuleNotFoundError: No module named 'esc_sr'")

    monkeypatch.setattr(Ray, "get", get)
    with pytest.raises(UsageError) as caught:
        do(Ray(1), Doing(), "a")
    assert str(caught.value) == (
        "node 10.0.0.0 cannot load esc-sr (ModuleNotFoundError: No module named 'esc_sr'); "
        "install the same there as here"
    )


def test_other_versions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "known_versions", lambda: {"esc-sr": "0.0.7", "torch": "0"})
    with pytest.raises(UsageError) as caught:
        do(Ray(1), Doing(), "a")
    assert re.fullmatch(
        r"node 10.0.0.0 has esc-sr \S+, torch \S+; the run was begun with esc-sr 0.0.7, torch 0",
        str(caught.value),
    )


def test_scores_are_those_of_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    tiny = tmp_path / "tiny.safetensors"
    weights.save(ESC(ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)), tiny)
    (tmp_path / "set").mkdir()
    for name in "cab":
        write_image(Picture(noise(20, 24 + ord(name) % 3, 3)), tmp_path / "set" / f"{name}.png")
    sets = [find_set(tmp_path / "set", 2)]
    (tmp_path / "set" / "b.png").write_bytes((tmp_path / "set" / "a.png").read_bytes()[:-200])
    names = ["bicubic", str(tiny)]
    methods = find_methods(names, 2)
    here: list[ScoreRow] = []
    run(methods, sets[0], here)

    @contextmanager
    def pretended(cluster: str) -> Iterator[Any]:
        yield Ray(1, 1)

    monkeypatch.setattr(scores, "connected", pretended)
    there: list[ScoreRow] = []
    scores.evaluate(scores.Methods(names, "auto", {}), {2: methods}, sets, there, "ray", Wish())
    assert [row.record() for row in there] == [row.record() for row in here]
    assert [len(row.images) for row in there] == [2, 2] and set(there[0].failed) == {"b"}
