"""Runs over a cluster that are broken off, or meet another: with a Ray in this process."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from esc_sr import weights
from esc_sr.cli.main import app
from esc_sr.cluster import upscale as module
from esc_sr.cluster.enlarging import NetworkChoice
from esc_sr.cluster.pool import Pool
from esc_sr.cluster.upscale import ClusterRun, Listener, upscale
from esc_sr.families.srvgg import SRVGGConfig, SRVGGNetCompact
from esc_sr.image import Picture, write_image
from esc_sr.machine.claim import Claim
from esc_sr.upscaling.batch import Choices
from esc_sr.upscaling.files import Outcome
from pictures import noise
from pretend_ray import pretend

pytest.importorskip("ray")

COUNT = 9


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterRun:
    pretend(monkeypatch, 1, 1)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    weights.save(SRVGGNetCompact(SRVGGConfig(2, 4, 1)), Path("tiny.safetensors"))
    Path("in").mkdir()
    Path("out").mkdir()
    for number in range(COUNT):
        write_image(Picture(noise(6, 5 + number, 3)), f"in/{number}.png")
    network = NetworkChoice("tiny.safetensors", None)
    return ClusterRun([Path("in")], Path("out"), "{stem}_{size}", None, network, Choices("skip"))


def rows() -> list[dict[str, Any]]:
    files = Path("out").glob("manifest-*.jsonl")
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def test_ctrl_c_loses_nothing_and_leaves_nothing(plan: ClusterRun, monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[Pool] = []
    said: list[Outcome] = []

    def pool(*given: Any) -> Pool:
        pools.append(Pool(*given))
        return pools[-1]

    def say(outcome: Outcome, device: str | None) -> None:
        said.append(outcome)
        if len(said) == 4:
            for job in pools[0].unfinished():  # as a worker leaves it that is killed
                held = Claim(job.target)
                held.part.write(b"part")
                held._place = None
                held.close()
            assert list(Path("out").glob(".*.part"))
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "Pool", pool)
        upscale(plan, "ray", Listener(lambda size: None, say))
    assert pools[0].unfinished() and not list(Path("out").glob(".*.part"))
    assert len(rows()) == len(list(Path("out").glob("*.png"))) == 4
    upscale(plan, "ray", Listener(lambda size: None, lambda outcome, device: said.append(outcome)))
    assert Counter(outcome.status for outcome in said) == {"done": COUNT, "skipped": 4}
    assert sorted(row["target"] for row in rows()) == [f"{number}_2x.png" for number in range(COUNT)]
    assert not list(Path("out").glob(".*"))


def test_two_runs_at_once_make_each_picture_once(plan: ClusterRun) -> None:
    first: list[Outcome] = []
    second: list[Outcome] = []

    def say(outcome: Outcome, device: str | None) -> None:
        first.append(outcome)
        if len(first) == 1:
            upscale(plan, "ray", Listener(lambda size: None, lambda outcome, device: second.append(outcome)))

    upscale(plan, "ray", Listener(lambda size: None, say))
    made = [outcome.target for outcome in first + second if outcome.status == "done"]
    assert len(set(made)) == len(made) == COUNT
    assert {outcome.status for outcome in first + second} == {"done", "skipped"}
    assert Counter(row["status"] for row in rows())["done"] == COUNT
    assert not list(Path("out").glob(".*"))


def test_lines_are_json_and_ctrl_c_is_one_line(plan: ClusterRun, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["upscale", "in", "-o", "out", "-n", "tiny.safetensors", "--cluster", "ray", "--json"]
    Path("in/cut.png").write_bytes(b"\x89PNG")
    result = CliRunner().invoke(app, arguments)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert Counter(record["status"] for record in records) == {"done": COUNT, "failed": 1}

    def interrupted(*given: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Ledger, "done", interrupted)
    result = CliRunner().invoke(app, [*arguments, "--overwrite"])
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "esc-sr: interrupted\n")
