"""Two processes that train together are one process with the joint batch, in every way that matters."""

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esc_sr.data.crops import Batch, Crops, batches
from esc_sr.data.pairs import cut_pair
from esc_sr.data.pictures import Decoded
from esc_sr.errors import DeviceError, UsageError
from esc_sr.families.esc import ESCConfig
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.train import checkpoint
from esc_sr.train.feed import Data
from esc_sr.train.loop import train
from esc_sr.train.losses import Distance
from esc_sr.train.monitor import RunOptions
from esc_sr.train.optimizer import MuonAdamW
from esc_sr.train.recipes import Classic
from esc_sr.train.run import Model, run
from esc_sr.train.schedule import Budget
from esc_sr.train.stop import stop_signals
from esc_sr.train.team import ALONE, Team, own_device

RECIPE = replace(Classic(), batch=8, accumulate=2, patch=8, lr=2e-3, warmup=0)


class Judging(Distance):
    """A distance with a part that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = nn.Conv2d(3, 1, 1)

    def forward(self, found: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        return super().forward(found, wanted) | {
            "judge": (self.judge(wanted) - self.judge(found.detach()) - 1).square().mean()
        }


def noise(
    share: tuple[int, int], happen: Callable[[int, Tensor], object] = lambda step, hr: None
) -> Iterator[Batch]:
    """Crops of noise; something may happen as a step's batch is drawn."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    pair = Decoded("lr", pixels[:20, :20]), Decoded("hr", pixels)
    crops = Crops([pair], partial(cut_pair, scale=2, patch=RECIPE.patch), RECIPE.seed)
    for step, (lr, hr) in enumerate(batches(crops, RECIPE.batch, share=share), start=1):
        happen(step, hr)
        yield lr, hr


def queries(share: tuple[int, int]) -> Iterator[Batch]:
    """The same for ESC+LTE."""
    for lr, hr in noise(share):
        points = lr.flatten(1)[:, :10].view(-1, 5, 2) * 2 - 1
        yield lr, points, torch.full_like(points, 0.1), hr[:, :, 0, :5].transpose(1, 2)


def make_state(rank: int, case: str) -> checkpoint.State:
    """A run before its first step; only the first process has the right weights of the network."""
    torch.manual_seed(0)
    objective = Judging()
    torch.manual_seed(rank)
    model: nn.Module = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
    if case == "lte":
        encoder = ESCConfig(2, 8, pdim=4, n_blocks=1, n_convattn=1, window=8, heads=1)
        model, objective = EncoderLTE(LTEConfig(encoder, hidden=8, mlp=(8,))), Distance()  # type: ignore[assignment]
    first, *others = [*model.parameters(), *objective.parameters()]
    optimizer: torch.optim.Optimizer
    if case == "muon":
        optimizer = MuonAdamW([first], others, share=2.0, lr=RECIPE.lr, weight_decay=0)
    else:
        optimizer = torch.optim.AdamW([first, *others], lr=RECIPE.lr, weight_decay=0, fused=True)
    ema = deepcopy(model).requires_grad_(False)
    return checkpoint.State(model, ema, objective, optimizer)


def go(out: Path, case: str, team: Team, given: Iterator[Batch], steps: int = 4) -> dict[str, Any]:
    """Train, and tell what came of it."""
    (out / case).mkdir(exist_ok=True)
    state = make_state(team.rank, case)
    records: list[Mapping[str, Any]] = []
    with stop_signals() as stop:
        finished = train(
            state,
            given,
            checkpoint.Plan(RECIPE, Budget(iterations=steps), {}),
            out / case,
            stop=stop,
            options=RunOptions(log_every=1),
            report=records.append,
            team=team,
        )
    return {
        "finished": finished,
        "iteration": state.iteration,
        "elapsed": state.elapsed,
        "skipped": state.skipped,
        "losses": [record["losses"] for record in records if record["event"] == "train"],
        "model": state.model.state_dict(),
        "objective": state.objective.state_dict(),
    }


def work(rank: int, port: int, out: Path) -> None:
    """What each process does; the results of all cases go to a file."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    team = Team.here()

    def poison(step: int, hr: Tensor) -> None:
        if rank == 1 and step == 2:
            hr[-1] = float("nan")

    def stop(step: int, hr: Tensor) -> None:
        if rank == 1 and step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    def die(step: int, hr: Tensor) -> None:
        if rank == 1 and step == 3:
            os._exit(9)

    results: dict[str, Any] = {}
    share = rank, 2
    try:
        with team.connected(torch.device("cpu")):
            results["plain"] = go(out, "plain", team, noise(share))
            results["lte"] = go(out, "lte", team, queries(share), steps=2)
            results["muon"] = go(out, "muon", team, noise(share))
            results["poison"] = go(out, "poison", team, noise(share, poison))
            results["stop"] = go(out, "stop", team, noise(share, stop))
            torch.save(results, out / f"{rank}.pt")
            go(out, "die", team, noise(share, die))
    except DeviceError as error:
        torch.save(results | {"error": str(error)}, out / f"{rank}.pt")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what two processes left there."""
    folder = tmp_path_factory.mktemp("team")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(rank, port, folder)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 9]
    return folder


@pytest.fixture(scope="module")
def ranks(out: Path) -> list[dict[str, Any]]:
    return [torch.load(out / f"{rank}.pt") for rank in (0, 1)]


def assert_same_weights(a: dict[str, Any], b: dict[str, Any], rtol: float, atol: float) -> None:
    for part in ("model", "objective"):
        torch.testing.assert_close(a[part], b[part], rtol=rtol, atol=atol)


@pytest.mark.parametrize(("case", "steps"), [("plain", 4), ("lte", 2), ("muon", 4)])
def test_losses_and_weights_are_those_of_one_process(
    ranks: list[dict[str, Any]], tmp_path: Path, case: str, steps: int
) -> None:
    given = queries((0, 1)) if case == "lte" else noise((0, 1))
    alone = go(tmp_path, case, ALONE, given, steps)
    first, second = (rank[case] for rank in ranks)
    assert len(first["losses"]) == steps and second["losses"] == []
    for together, single in zip(first["losses"], alone["losses"], strict=True):
        assert together == pytest.approx(single, rel=1e-4)
    assert_same_weights(first, second, rtol=0, atol=0)
    assert_same_weights(first, alone, rtol=1e-3, atol=2e-5)
    assert first["elapsed"] == second["elapsed"]


def test_a_bad_step_of_one_is_left_out_by_both(ranks: list[dict[str, Any]]) -> None:
    first, second = (rank["poison"] for rank in ranks)
    assert first["skipped"] == second["skipped"] == 1
    assert_same_weights(first, second, rtol=0, atol=0)
    assert [bool(losses) for losses in first["losses"]] == [True, False, True, True]


def test_a_signal_to_one_stops_both_with_the_state_saved(ranks: list[dict[str, Any]], out: Path) -> None:
    first, second = (rank["stop"] for rank in ranks)
    assert (first["finished"], first["iteration"]) == (second["finished"], second["iteration"]) == (False, 2)
    assert checkpoint.load(out / "stop")["iteration"] == 2  # the third was broken off between its parts
    assert_same_weights(first, second, rtol=0, atol=0)


def test_one_that_dies_is_an_error_of_the_others(ranks: list[dict[str, Any]]) -> None:
    assert "process 0 of 2: another one has ended" in ranks[0]["error"]
    assert "\n" not in ranks[0]["error"]


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(
        UsageError, match="batch=8: must be a multiple of 6, for 3 processes and accumulate=2"
    ):
        run(RECIPE, Model("esc-light", 2), Data([tmp_path]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_each_process_of_a_machine_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    names, picked = ["auto", "cuda", "cuda:0", "cpu"], list[str]()

    def picks() -> list[str]:
        picked.clear()
        for name in names:
            own_device(name)
        return picked

    monkeypatch.setattr("esc_sr.train.team.pick_device", picked.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert picks() == names
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert picks() == ["auto", "cuda:1", "cuda:0", "cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert picks() == ["cuda:1", "cuda:1", "cuda:0", "cpu"]


def test_a_process_knows_the_others_of_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Team.here() == Team(rank=0, size=1, local_size=1)
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert Team.here() == Team(rank=5, size=8, local_size=4)
