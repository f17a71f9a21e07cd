"""Engines side by side: what is compared with what, and how it is told."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from esc_sr import native, runtimes, weights
from esc_sr.benchmark import cpu, measure
from esc_sr.benchmark.cpu import REFERENCE, EngineCase
from esc_sr.cli.main import app
from esc_sr.errors import UsageError
from esc_sr.families.esc import ESC, ESCConfig

TINY = ESCConfig(dim=16, pdim=8, kernel=5, n_blocks=1, n_convattn=1, window=8, heads=2)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    def here(case: measure.Case, device: torch.device) -> dict[str, object]:
        return measure.memory(case, str(device), torch.get_num_threads())

    monkeypatch.setattr(measure, "_in_child", here)
    torch.manual_seed(0)
    weights.save(ESC(TINY), tmp_path / "tiny.safetensors")
    return str(tmp_path / "tiny.safetensors")


def test_the_reference_is_the_plain_network(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = weights.load(tiny)
    network.attention = "naive"
    assert isinstance(network, ESC)
    lr = cpu.picture_of((20, 30))
    with torch.inference_mode():
        plain = network.add_picture(network.upsampler(network.features(lr)), lr)
    run = EngineCase(tiny, 2, (20, 30)).prepare(torch.device("cpu"))

    def fails(*rest: object) -> None:
        raise AssertionError

    monkeypatch.setattr("esc_sr.families.esc.banded.enlarge", fails)
    with native.without():
        assert torch.equal(run(), plain)
    assert 0 <= lr.min() and lr.max() <= 1 and lr.std() > 0.1 and torch.equal(lr, cpu.picture_of((20, 30)))


def test_what_is_not_here_is_left_out_unless_it_is_wished_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    monkeypatch.setenv("ESC_SR_NATIVE", "off")
    cases, left_out = cpu.select("esc-light", 4, (8, 8), [], [])
    assert [(case.engine, case.precision) for case in cases] == [
        (REFERENCE, "fp32"),
        ("torch", "fp32"),
        ("torch", "bf16"),
    ]
    assert len(left_out) == 5 and any("pip install 'esc-sr[onnx]'" in why for why in left_out)
    with pytest.raises(UsageError, match="openvino needs openvino"):
        cpu.select("esc-light", 4, (8, 8), ["openvino"], [])


def test_command(tiny: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    given = ["benchmark", "cpu", "-n", tiny, "-s", "2", "--output-size", "48x32", "--runs", "2"]
    given += ["--engine", "torch", "--json", "-o", str(tmp_path / "bars.svg")]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [(row["engine"], row["precision"]) for row in rows] == [
        (REFERENCE, "fp32"),
        ("torch", "fp32"),
        ("torch", "bf16"),
    ]
    assert rows[0]["less_cpu"] == rows[0]["less_wall"] == 1 and rows[0]["max_difference"] == 0
    assert rows[1]["max_difference"] < 1e-5 < rows[2]["max_difference"] < 0.1
    assert rows[1]["psnr_to_reference"] > 80 > rows[2]["psnr_to_reference"] > 30
    assert all(len(row["cpu_times_ms"]) == 2 and row["cpu_median_ms"] > 0 for row in rows)
    assert "less: than naive takes" in result.stderr
    assert "torch bf16" in (tmp_path / "bars.svg").read_text()


def test_a_reference_that_cannot_run_loses_nothing_else(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    prepare = EngineCase.prepare

    def short_of_memory(case: EngineCase, device: torch.device) -> object:
        if case.engine == REFERENCE:
            raise MemoryError("too little")
        return prepare(case, device)

    monkeypatch.setattr(EngineCase, "prepare", short_of_memory)
    given = ["benchmark", "cpu", "-n", tiny, "-s", "2", "--output-size", "48x32", "--runs", "1"]
    given += ["--engine", "torch", "-o", str(tmp_path / "bars.svg")]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    assert "too little" in result.stdout and "torch bf16" in (tmp_path / "bars.svg").read_text()
    with pytest.raises(UsageError, match="nothing was timed"):
        cpu.plot([], tmp_path / "none.svg")


def test_mistakes_are_one_line(tiny: str, tmp_path: Path) -> None:
    for given, said in (
        (["--engine", "tpu"], "no engine is called 'tpu'"),
        (["--output-size", "big"], "is not WIDTHxHEIGHT"),
        (["-o", str(tmp_path / "bars.txt")], "no figure ends in '.txt'"),
    ):
        result = CliRunner().invoke(app, ["benchmark", "cpu", "-n", tiny, *given])
        assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1
