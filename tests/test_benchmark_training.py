"""Training steps as a benchmark: they are those of the loop, and compared between backends."""

import json
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from esc_sr.benchmark import measure
from esc_sr.benchmark.training import TrainingCase
from esc_sr.cli.main import app

CPU = torch.device("cpu")


@pytest.mark.parametrize("case", [TrainingCase("esc-light", 2, 1, 8), TrainingCase("esc-lte", 2, 1, 8)])
def test_a_run_is_a_step(case: TrainingCase) -> None:
    with torch.inference_mode():
        run = case.prepare(CPU)
        first, second = run(), run()
    assert isinstance(first, dict) and isinstance(second, dict)
    assert 0 < first["l1"] < 1 and second["l1"] != first["l1"]  # the same batch, other weights


WAYS = ("naive", "sdpa")


def test_command_compares_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    def here(case: measure.Case, device: torch.device) -> dict[str, Any]:
        return measure.memory(case, str(device), torch.get_num_threads())

    monkeypatch.setattr(measure, "_in_child", here)
    backends = [word for way in WAYS for word in ("--backend", way)]
    options = (*backends, "--batch", "1", "--batch", "2", "--patch", "8", "--runs", "2", "--device", "cpu")
    result = CliRunner().invoke(app, ["benchmark", "training", *options, "--json"])
    assert result.exit_code == 0, result.output
    assert "esc-light" in result.stderr and "forward, backward, optimizer" in result.stderr
    rows = json.loads(result.stdout)["rows"]
    assert [(row["batch"], row["backend"]) for row in rows] == [(n, way) for n in (1, 2) for way in WAYS]
    for naive, sdpa in (rows[:2], rows[2:]):
        assert naive["speedup"] == 1
        assert sdpa["speedup"] == pytest.approx(naive["median_ms"] / sdpa["median_ms"])
        assert sdpa["it_per_s"] == pytest.approx(1000 / sdpa["median_ms"])
        assert sdpa["px_per_s"] == pytest.approx(sdpa["it_per_s"] * sdpa["batch"] * sdpa["patch"] ** 2)
        assert sdpa["problem"] is None
