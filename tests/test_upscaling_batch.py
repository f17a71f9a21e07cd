"""Many pictures at once: what overlaps, what does not, and whose fault is whose."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esc_sr.errors import ImageError
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.image import Picture, read_image, write_image
from esc_sr.machine.claim import Claim
from esc_sr.remote import RemoteClaim
from esc_sr.upscaling import batch
from esc_sr.upscaling.batch import BatchStatus, Choices, run
from esc_sr.upscaling.engine import Upscaler
from esc_sr.upscaling.files import Existing, Job, Outcome, claim_target, read_source, write_result
from esc_sr.upscaling.places import Place, is_file
from esc_sr.upscaling.sizes import Size
from pictures import noise, on_disk

WAIT = 60  # seconds, for what happens at once or never


class Repeat(nn.Module):
    """Repeats pixels, after doing something else."""

    def __init__(self, first: Callable[[int], object] = bool) -> None:
        super().__init__()
        self.first, self.calls = first, 0

    def forward(self, lr: Tensor) -> Tensor:
        self.calls += 1
        self.first(self.calls)
        return torch.kron(lr, lr.new_ones(2, 2))


def jobs_in(folder: Path, count: int) -> list[Job]:
    for place in range(count):
        write_image(Picture(noise(5, 8, 3)), folder / f"{place}.png")
    return [Job(folder / f"{place}.png", folder / "out" / f"{place}.png") for place in range(count)]


def traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read and written, in order."""
    events: list[str] = []

    def trace(name: str) -> None:
        original = getattr(batch, name)

        def traced(job: Job, *rest: object) -> object:
            events.append(f"{name.split('_')[0]} {job.source.stem}")
            return original(job, *rest)

        monkeypatch.setattr(batch, name, traced)

    for name in ("read_source", "enlarge", "write_result"):
        trace(name)
    return events


def test_the_next_is_read_and_the_last_written_while_one_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, computing = threading.Event(), threading.Event()

    def reading(job: Job, *rest: object) -> object:
        if job.source.stem == "2":
            read.set()
        return read_source(job, *rest)  # type: ignore[arg-type]

    def writing(job: Job, *rest: object) -> None:
        if job.source.stem == "0":
            assert computing.wait(WAIT)
        write_result(job, *rest)  # type: ignore[arg-type]

    def first(call: int) -> None:
        if call == 1:
            assert read.wait(WAIT)
        if call == 2:
            computing.set()

    monkeypatch.setattr(batch, "read_source", reading)
    monkeypatch.setattr(batch, "write_result", writing)
    outcomes: list[Outcome] = []
    jobs = jobs_in(tmp_path, 4)
    run(jobs, Upscaler(Repeat(first), scale=2), outcomes.append)
    assert [outcome.source for outcome in outcomes] == [job.source for job in jobs]
    expected = np.kron(noise(5, 8, 3), np.ones((2, 2, 1), np.uint8))
    for job in jobs:
        np.testing.assert_array_equal(read_image(on_disk(job.target)).pixels, expected)


def test_ctrl_c_leaves_no_claim_that_nobody_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def claiming(job: Job) -> Claim | RemoteClaim:
        claim = claim_target(job)
        if job.source.stem == "1":
            signal.raise_signal(signal.SIGINT)
        return claim

    monkeypatch.setattr(batch, "claim_target", claiming)
    outcomes: list[Outcome] = []
    jobs = jobs_in(tmp_path, 3)
    with pytest.raises(KeyboardInterrupt):
        run(jobs, Upscaler(Repeat(), scale=2), outcomes.append)
    assert os.listdir(tmp_path / "out") == ["0.png"]
    assert [outcome.source for outcome in outcomes] == [jobs[0].source]


def test_a_large_picture_has_the_memory_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, events = jobs_in(tmp_path, 3), traced(monkeypatch)
    alone = [f"{stage} {place}" for place in range(3) for stage in ("read", "enlarge", "write")]
    run(jobs, Upscaler(Repeat(), scale=2), bool, overlap=False)
    assert events == alone
    events.clear()
    monkeypatch.setattr(batch, "LARGE", 4 * 5 * 8 - 1)
    run(jobs, Upscaler(Repeat(), scale=2), bool, Choices("overwrite"))
    assert events == alone


def test_large_is_what_the_network_gives_before_it_is_reduced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, events = jobs_in(tmp_path, 3), traced(monkeypatch)
    on_disk(jobs[2].source).write_bytes(b"no picture")
    network = ESC(ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2))
    outcomes: list[Outcome] = []
    monkeypatch.setattr(batch, "LARGE", 4 * 5 * 8 - 1)
    run(jobs, Upscaler(network, Size("width", 12)), outcomes.append)
    assert events[:6] == [f"{stage} {place}" for place in range(2) for stage in ("read", "enlarge", "write")]
    assert [outcome.target_size for outcome in outcomes] == [(8, 12), (8, 12), None]


def test_not_too_many_are_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, events = jobs_in(tmp_path, 6), traced(monkeypatch)
    ahead: list[int] = []

    def first(call: int) -> None:
        ahead.append(sum(event.startswith("read") for event in events) - call)

    run(jobs, Upscaler(Repeat(first), scale=2), bool)
    assert max(ahead) <= batch.AHEAD


def test_each_error_belongs_to_its_picture_and_stops_no_other(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 5)
    on_disk(jobs[1].source).write_bytes(b"no picture")

    (tmp_path / "out").mkdir()
    on_disk(jobs[3].target).write_bytes(b"precious")

    def first(call: int) -> None:
        if call == 2:  # the third picture
            raise MemoryError

    outcomes: list[Outcome] = []
    run(jobs, Upscaler(Repeat(first), scale=2), outcomes.append)
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "failed", "failed", "done"]
    for place, said in ((1, "not a complete"), (2, "not enough memory"), (3, "exists")):
        assert f"{place}.png" in outcomes[place].reason and said in outcomes[place].reason
    assert (outcomes[0].size, outcomes[0].target_size) == ((5, 8), (10, 16))
    assert (outcomes[2].size, outcomes[2].target_size) == ((5, 8), None)
    assert jobs[3].target.read_bytes() == b"precious"


@pytest.mark.parametrize(("existing", "status"), [("skip", "skipped"), ("refuse", "failed")])
def test_an_output_that_another_process_makes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: Existing, status: str
) -> None:
    jobs = jobs_in(tmp_path, 3)
    (tmp_path / "out").mkdir()

    def writing(job: Job, *rest: object) -> None:
        if job is jobs[2]:
            on_disk(job.target).write_bytes(b"theirs")
        write_result(job, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(batch, "write_result", writing)
    network = Repeat(lambda call: on_disk(jobs[1].target).write_bytes(b"theirs"))
    outcomes: list[Outcome] = []
    run(jobs, Upscaler(network, scale=2), outcomes.append, Choices(existing))
    assert [outcome.status for outcome in outcomes] == ["done", status, status]
    assert [job.target.read_bytes() == b"theirs" for job in jobs] == [False, True, True]
    assert network.calls == (2 if existing == "skip" else 3)


@pytest.mark.parametrize(
    ("existing", "status", "said"),
    [("skip", "skipped", "another run is making the output"), ("overwrite", "failed", "another run is")],
)
def test_what_another_process_is_making_is_not_computed(
    tmp_path: Path, existing: Existing, status: str, said: str
) -> None:
    pytest.importorskip("fcntl")
    jobs, network, outcomes = jobs_in(tmp_path, 3), Repeat(), list[Outcome]()
    (tmp_path / "out").mkdir()
    with closing(Claim(on_disk(jobs[1].target))):
        run(jobs, Upscaler(network, scale=2), outcomes.append, Choices(existing))
    assert [outcome.status for outcome in outcomes] == ["done", status, "done"]
    assert said in outcomes[1].reason and network.calls == 2
    assert sorted(os.listdir(tmp_path / "out")) == ["0.png", "2.png"]


def test_an_output_that_cannot_be_looked_for_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, outcomes = jobs_in(tmp_path, 3), list[Outcome]()

    def asked(place: Place) -> bool:
        if place == jobs[1].target:
            raise ImageError(f"{place}: cannot be reached")
        return is_file(place)

    monkeypatch.setattr(batch, "is_file", asked)
    run(jobs, Upscaler(Repeat(), scale=2), outcomes.append, Choices("skip"))
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done"]
    assert outcomes[1].reason == f"{jobs[1].target}: cannot be reached"


@pytest.mark.parametrize("stage", ["read_source", "enlarge", "write_result"])
def test_a_bug_in_any_stage_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(batch, stage, broken)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        run(jobs_in(tmp_path, 4), Upscaler(Repeat(), scale=2), bool)
    assert not any((tmp_path / "out").glob("*"))
    assert threading.active_count() == before


def test_ctrl_c_keeps_what_is_computed_and_no_more(tmp_path: Path) -> None:
    def first(call: int) -> None:
        if call == 3:
            raise KeyboardInterrupt

    outcomes: list[Outcome] = []
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run(jobs_in(tmp_path, 9), Upscaler(Repeat(first), scale=2), outcomes.append)
    assert sorted(os.listdir(tmp_path / "out")) == ["0.png", "1.png"]
    assert [on_disk(outcome.source).stem for outcome in outcomes] == ["0", "1"]
    assert threading.active_count() == before


def test_progress_counts_pixels_inside_and_across_pictures(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 4)
    write_image(Picture(noise(50, 40, 4)), on_disk(jobs[1].source), overwrite=True)  # alpha: two passes
    on_disk(jobs[2].source).write_bytes(on_disk(jobs[2].source).read_bytes()[:-20])
    heard: list[BatchStatus] = []
    network = ESC(ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2))
    run(jobs, Upscaler(network), bool, progress=heard.append)
    assert [status.done for status in heard] == sorted(status.done for status in heard)
    assert {status.place for status in heard} == {0, 1, 2, 3}
    assert sum(status.place == 1 for status in heard) > 10
    assert heard[0] == BatchStatus(jobs[0].source, 0, 4, 0, 2120)
    assert heard[-1].total == 2080 and heard[-1].done == pytest.approx(2080)
