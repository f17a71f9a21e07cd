"""Batches by number: the same with workers, after a resume and in shares, and errors in one line."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from esc_sr.data.crops import Batch, Crops, batches, shares_of
from esc_sr.data.sources import Block, Held
from esc_sr.errors import DataError, ImageError, UsageError


def draw(picture: float, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A crop that says which picture it is of, and what was drawn for it."""
    return torch.tensor(picture), torch.from_numpy(generator.random(2))


def crops(shares: list[float] | None = None, seed: int = 3) -> Crops[float]:
    return Crops([0.0, 1.0, 2.0], draw, seed, shares)


def take(count: int, start: int = 0, **how: object) -> list[Batch]:
    return list(islice(batches(crops(), 4, start, **how), count))  # type: ignore[arg-type]


def assert_equal(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for mine, yours in zip(one, other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, yours, strict=True))


def test_any_step_is_the_same_wherever_it_starts_and_whoever_reads_it() -> None:
    whole = take(6)
    assert_equal(take(4, start=2), whole[2:])
    assert_equal(take(6, workers=2), whole)
    assert_equal(take(2, start=4, workers=1), whole[4:])
    drawn = torch.cat([numbers for _, numbers in whole]).flatten()
    assert len(drawn.unique()) == len(drawn)
    assert not torch.equal(next(batches(crops(seed=4), 4))[1], whole[0][1])


@pytest.mark.parametrize("world", [2, 4])
def test_shares_of_a_batch_are_the_whole_batch(world: int) -> None:
    parts = [take(3, share=(rank, world)) for rank in range(world)]
    joined = [tuple(torch.cat(part) for part in zip(*step, strict=True)) for step in zip(*parts, strict=True)]
    assert_equal(joined, take(3))
    with pytest.raises(UsageError, match="batch=4: must be a multiple of the 3 processes"):
        batches(crops(), 4, share=(0, 3))


def test_neither_way_touches_the_randomness_of_the_process() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    take(1)
    take(1, workers=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("per_epoch", [1, 2])
def test_in_an_epoch_every_picture_comes_equally_often(per_epoch: int) -> None:
    pictures = [float(number) for number in range(10)]
    ordered, length = Crops(pictures, draw, 3, per_epoch=per_epoch), 10 * per_epoch
    taken = [[int(ordered[number][0]) for number in range(first, first + length)] for first in (0, length)]
    assert all(Counter(epoch) == dict.fromkeys(range(10), per_epoch) for epoch in taken)
    assert taken[0] != taken[1] and taken[0] != sorted(taken[0])
    late = Crops(pictures, draw, 3, per_epoch=per_epoch)  # as after a resume, or in another process
    assert [int(late[number][0]) for number in range(2 * length - 1, -1, -1)] == (taken[0] + taken[1])[::-1]


def test_a_mix_decides_how_often_a_root_is_drawn() -> None:
    shares = shares_of([1, 2], [3, 1])
    assert shares == [3, 0.5, 0.5]
    mixed = crops(shares)
    counts = Counter(int(mixed[number][0]) for number in range(4000))
    assert counts[0] / 4000 == pytest.approx(0.75, abs=0.03)
    assert counts[1] / 4000 == pytest.approx(0.125, abs=0.03)
    never = crops(shares_of([2, 1], [0, 1]))
    assert {int(never[number][0]) for number in range(200)} == {2}
    assert shares_of([1, 2], None) is None


@pytest.mark.parametrize("mix", [[1], [1, 2, 3], [-1, 2], [0, 0], [float("nan"), 1], [float("inf"), 1]])
def test_a_mix_that_cannot_be_is_refused(mix: list[float]) -> None:
    with pytest.raises(UsageError, match=r"--mix .*: must be 2 numbers, one for each --data"):
        shares_of([5, 6], mix)


def fail(picture: float, generator: np.random.Generator) -> Batch:
    raise ImageError("a.png is damaged")


def die(marker: Path, generator: np.random.Generator) -> Batch:
    if not marker.exists():
        return (torch.zeros(1),)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_is_one_line(workers: int) -> None:
    with pytest.raises(ImageError) as caught:
        next(batches(Crops([0.0], fail, 0), 1, workers=workers))
    assert str(caught.value) == "a.png is damaged"


def test_a_killed_worker_is_one_line(tmp_path: Path) -> None:
    marker = tmp_path / "now"
    stream = batches(Crops([marker], die, 0), 1, workers=2)
    next(stream)
    marker.touch()
    with pytest.raises(DataError, match=r"died \(.+\); .* fewer --workers") as caught:
        for _ in range(20):
            next(stream)
    assert "\n" not in str(caught.value)


def slip(picture: float, generator: np.random.Generator) -> Batch:
    raise RuntimeError("a bug")


def test_a_bug_in_a_worker_is_not_taken_for_its_death() -> None:
    with pytest.raises(RuntimeError, match="Caught RuntimeError in DataLoader worker(.|\n)*a bug"):
        next(batches(Crops([0.0], slip, 0), 1, workers=1))


def read(held: Held, generator: np.random.Generator) -> Batch:
    """The pixels; and a change, to see whether others see it."""
    before = torch.from_numpy(held.pixels.copy())
    held.pixels[...] += 1
    return (before,)


@pytest.mark.parametrize("named", ["memfd_create", "nothing"])
def test_workers_see_pictures_in_memory_without_a_copy(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, named, raising=False)  # not every system has it
    block = Block(2 * 12)
    held = Held("a", (2, 2), block, 12)
    held.pixels[...] = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    (first,) = next(batches(Crops([held], read, 0), 1, workers=1))
    assert torch.equal(first[0], torch.arange(12, dtype=torch.uint8).view(2, 2, 3))
    assert held.pixels[0, 0, 0] >= 1
    assert not np.frombuffer(block.bytes, np.uint8)[:12].any()


def test_signals_to_the_group_of_the_run_do_not_reach_workers() -> None:
    others = multiprocessing.active_children()
    stream = batches(crops(), 4, workers=1)
    next(stream)
    (worker,) = set(multiprocessing.active_children()) - set(others)
    assert worker.pid
    assert os.getpgid(worker.pid) != os.getpgid(0)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_workers_end_with_a_run_that_is_killed() -> None:
    script = (
        "import multiprocessing, time; from test_data_crops import batches, crops;"
        "stream = batches(crops(), 4, workers=2); next(stream);"
        "print(*(worker.pid for worker in multiprocessing.active_children()), flush=True); time.sleep(300)"
    )
    places = os.pathsep.join(map(str, (Path(__file__).parent, Path(__file__).parents[1] / "src")))
    run = subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": places},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert run.stdout is not None
    workers = [*map(int, run.stdout.readline().split())]
    run.kill()
    try:
        assert len(workers) == 2
        run.communicate(timeout=60)  # until nobody has the other end of the pipe
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
