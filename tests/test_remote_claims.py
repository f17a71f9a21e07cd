"""Claims in stores: kept up, given up, taken over; and what an interrupt leaves."""

import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from torch import Tensor, nn

from esc_sr.errors import EscError
from esc_sr.image import Animation, Encoding, Picture, encode_image
from esc_sr.remote import Address, RemoteClaim, claim, faults, parse
from esc_sr.remote.stores import Listed, RemoteStore
from esc_sr.upscaling.batch import BatchStatus, Choices, run
from esc_sr.upscaling.engine import Upscaler
from esc_sr.upscaling.files import Existing, Job, Outcome, find_jobs
from esc_sr.upscaling.names import Names
from pictures import noise


class Repeat(nn.Module):
    """Nearest neighbour x2, which counts and may do something meanwhile."""

    def __init__(self, meanwhile: Callable[[int], object] = lambda call: None) -> None:
        super().__init__()
        self.calls, self.meanwhile = 0, meanwhile

    def forward(self, lr: Tensor) -> Tensor:
        self.calls += 1
        self.meanwhile(self.calls)
        return lr.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Address:
    return parse(f"memory://{request.node.name.replace('[', '-').strip(']')}")


def put(place: Address, data: bytes) -> None:
    place.store.call(lambda files: files.pipe_file(place.path, data))


def names(folder: Address) -> list[str]:
    return sorted(str(there.below(folder)) for there in folder.files()) if folder.found() else []


def jobs_in(folder: Address, count: int) -> list[Job]:
    picture = Animation([Picture(noise(4, 6, 3))], [], 0)
    data = encode_image(picture, "png", Encoding(), print)
    for place in range(count):
        put(folder / f"in/{place}.png", data)
    return find_jobs([folder / "in"], f"{folder}/out/", Names(), existing="skip").jobs


def test_a_claim_is_one_s_own_until_it_is_closed(folder: Address) -> None:
    target = pickle.loads(pickle.dumps(folder / "a.png"))  # as it goes to another process
    with closing(RemoteClaim(target)) as mine:
        with pytest.raises(BlockingIOError, match="another run is writing it"):
            RemoteClaim(target)
        mine.publish(b"one", overwrite=False)
        with pytest.raises(FileExistsError):
            mine.publish(b"two", overwrite=False)
        mine.publish(b"one", overwrite=False)  # as after an answer that was lost
        assert target.read_bytes() == b"one" and len(names(folder)) == 2
    mine.close()
    assert names(folder) == ["a.png"]
    RemoteClaim(target).close()


def test_a_claim_that_is_renewed_lasts(folder: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "LEASE", 0.2)
    monkeypatch.setattr(claim, "RENEWAL", 0.02)
    with closing(RemoteClaim(folder / "a.png")):
        time.sleep(0.4)
        with pytest.raises(BlockingIOError):
            RemoteClaim(folder / "a.png")
    time.sleep(0.05)
    assert names(folder) == []  # and no renewal after the end


def test_of_many_one_takes_over_the_claim_of_one_that_was_killed(
    folder: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = RemoteClaim(folder / "a.png")
    owners: list[RemoteClaim] = []
    started = threading.Barrier(8)

    def take() -> None:
        started.wait()
        try:
            owners.append(RemoteClaim(folder / "a.png"))
        except BlockingIOError:
            pass

    born = dead._owner(dead._place)[1]
    monkeypatch.setattr(claim, "_is_old", lambda since: since <= born)
    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(owners) == 1
    dead.close()  # it was only slow, and sees that its claim is gone
    with pytest.raises(BlockingIOError):
        RemoteClaim(folder / "a.png")
    owners[0].close()
    assert names(folder) == []


@pytest.mark.parametrize("content", [b"", b"[1]", b"{"])
def test_a_claim_that_tells_nothing_is_as_old_as_its_file(
    folder: Address, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    with closing(RemoteClaim(folder / "a.png")) as killed:
        put(killed._place, content)
        with pytest.raises(BlockingIOError):
            RemoteClaim(folder / "a.png")
        monkeypatch.setattr(claim, "LEASE", -1.0)
        with closing(RemoteClaim(folder / "a.png")):
            assert len(names(folder)) == 1
    assert names(folder) == []


def test_two_runs_at_once_make_each_picture_once(folder: Address) -> None:
    jobs = jobs_in(folder, 12)
    networks = [Repeat(lambda call: time.sleep(0.005)) for _ in range(2)]
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(target=run, args=(jobs, Upscaler(network, 2), outcomes.append, Choices("skip")))
        for network in networks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.status for outcome in outcomes) == ["done"] * 12 + ["skipped"] * 12
    assert sum(network.calls for network in networks) == 12 and min(n.calls for n in networks) > 0
    assert names(folder / "out") == sorted(f"{place}_2x.png" for place in range(12))


def test_ctrl_c_leaves_whole_outputs_and_no_claim(folder: Address) -> None:
    jobs = jobs_in(folder, 6)

    def interrupt(call: int) -> None:
        if call == 3:
            raise KeyboardInterrupt

    outcomes: list[Outcome] = []
    with pytest.raises(KeyboardInterrupt):
        run(jobs, Upscaler(Repeat(interrupt), 2), outcomes.append, Choices("skip"))
    assert names(folder / "out") == ["0_2x.png", "1_2x.png"]
    run(jobs, Upscaler(Repeat(), 2), outcomes.append, Choices("skip"))
    assert [o.status for o in outcomes] == ["done"] * 2 + ["skipped"] * 2 + ["done"] * 4


def test_ctrl_c_does_not_wait_for_a_store_to_come_back(
    folder: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_in(folder, 4)

    def lost(files: object, path: str) -> bytes:
        if ".claim" in path:
            return read(files, path)
        asked.set()
        raise ConnectionResetError

    def interrupt(call: int) -> None:
        asked.wait(10)
        raise KeyboardInterrupt

    asked = threading.Event()
    monkeypatch.setattr(faults, "PAUSE", 30.0)
    jobs[0] = jobs[0]._replace(data=jobs[0].source.read_bytes())
    read = MemoryFileSystem.cat_file
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lost)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(jobs, Upscaler(Repeat(interrupt), 2), print)
    assert time.monotonic() - begun < 10


def test_progress_ends_with_all_that_was_done(folder: Address) -> None:
    jobs = jobs_in(folder, 5)
    put(jobs[2].source, b"\x89PNG\r\n\x1a\n, and no more")  # type: ignore[arg-type]
    put(jobs[3].source, b"")  # type: ignore[arg-type]
    told: list[BatchStatus] = []
    outcomes: list[Outcome] = []
    run(jobs, Upscaler(Repeat(), 2), outcomes.append, progress=told.append)
    assert [outcome.status for outcome in outcomes] == ["done", "done", "failed", "failed", "done"]
    assert "the file is empty" in outcomes[3].reason
    assert told[0].total > 0 and (told[-1].done, told[-1].total) == (3 * 24, 3 * 24)
    assert {status.count for status in told} == {5}


def test_two_inputs_do_not_become_one_output(folder: Address) -> None:
    for key in ("x/a.png", "y/a.png"):
        put(folder / key, b"")
    with pytest.raises(EscError, match="x/a.png and .*y/a.png would both become .*out/a_2x.png"):
        find_jobs([folder / "x/a.png", folder / "y/a.png"], f"{folder}/out/", Names())
    todo = find_jobs([f"{folder}/x", f"{folder}/y/a.png", f"{folder}/x"], None, Names())
    assert [str(job.target) for job in todo.jobs] == [f"{folder}/{key}/a_2x.png" for key in "xy"]


def test_outputs_that_are_all_replaced_are_not_listed(
    folder: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs_in(folder, 2)
    listed: list[str] = []
    entries = RemoteStore.entries

    def noted(store: RemoteStore, path: str, deep: bool) -> Iterator[Listed]:
        listed.append(path)
        return entries(store, path, deep)

    monkeypatch.setattr(RemoteStore, "entries", noted)
    cases: list[Existing] = ["overwrite", "skip"]
    for existing in cases:
        find_jobs([f"{folder}/in"], f"{folder}/o/", Names(), existing=existing)
        assert ((folder / "o").path in listed) == (existing == "skip")


def test_an_input_is_never_overwritten(folder: Address) -> None:
    put(folder / "a.png", b"")
    (failed,) = find_jobs([f"{folder}/a.png"], f"{folder}/a.png", Names(), existing="overwrite").settled
    assert "is an input itself" in failed.reason


def test_names_may_depend_on_the_size(folder: Address) -> None:
    jobs_in(folder, 1)
    (job,) = find_jobs([f"{folder}/in"], f"{folder}/o/", Names("{stem}-{width}x{height}")).jobs
    assert job.target == folder / "o/0-12x8.png"
