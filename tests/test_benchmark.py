"""Latency, memory, plots, and the command line of all of them; what is measured is never judged."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from esc_sr import paper, record
from esc_sr.benchmark import measure
from esc_sr.benchmark.attention import AttentionCase, attention
from esc_sr.benchmark.latency import NetworkCase, latency
from esc_sr.benchmark.measure import Rule
from esc_sr.benchmark.plot import plot, points
from esc_sr.cli.main import app
from esc_sr.errors import UsageError
from esc_sr.machine import memory
from esc_sr.network.attention import best_backend

CPU = torch.device("cpu")
MIB = 2**20


@dataclass(frozen=True)
class Allocation:
    """A case that takes some memory for a moment, or fails."""

    mib: int
    backend: str = "sdpa"

    def facts(self) -> dict[str, Any]:
        return {"mib": self.mib}

    def small(self) -> "Allocation":
        return Allocation(0)

    def prepare(self, device: torch.device) -> Callable[[], object]:
        def run() -> object:
            if self.mib < 0:
                raise RuntimeError("no such memory\nand more lines")
            return torch.ones(self.mib * MIB // 4, device=device).sum()

        return run


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures memory here; a new process takes seconds to begin."""

    def here(case: measure.Case, device: torch.device) -> dict[str, Any]:
        return measure.memory(case, str(device), torch.get_num_threads())

    monkeypatch.setattr(measure, "_in_child", here)


def silent(_: str) -> None: ...


def test_what_is_timed_before_an_interruption_is_kept(in_process: None) -> None:
    calls = 0

    class Stops(Allocation):
        def prepare(self, device: torch.device) -> Callable[[], object]:
            def run() -> None:
                nonlocal calls
                calls += 1
                if calls == 6:  # memory, warm-up, three rounds, and then
                    raise KeyboardInterrupt

            return run

    (row,) = measure.measure([Stops(1)], CPU, Rule(1, 5), silent)
    assert len(row["times_ms"]) == 3 and row["median_ms"] is not None and row["problem"] is None


def sane(row: dict[str, Any], runs: int) -> bool:
    quartiles = row["quartiles_ms"]
    ordered = row["min_ms"] <= quartiles[0] <= row["median_ms"] <= quartiles[1] <= row["max_ms"]
    return 0 < row["min_ms"] and ordered and len(row["times_ms"]) == runs and row["problem"] is None


def test_cases_take_turns(in_process: None) -> None:
    told: list[str] = []
    order: list[int] = []

    @dataclass(frozen=True)
    class Noted(Allocation):
        def prepare(self, device: torch.device) -> Callable[[], object]:
            return lambda: order.append(self.mib)

    measure.measure([Noted(1), Noted(2)], CPU, Rule(warmup=2, runs=3), told.append)
    assert order[-10:] == [1, 1, 2, 2, 1, 2, 1, 2, 1, 2]
    assert told[-1] == "round 3/3"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_cpu_memory_is_the_peak_of_the_run() -> None:
    large, larger = (measure.memory(Allocation(mib), "cpu", torch.get_num_threads()) for mib in (64, 192))
    assert 63 < large["memory_mib"] < 100
    assert 191 < larger["memory_mib"] < 230


class Kept(Allocation):
    """A case that leaves memory behind, freed and kept, as training does."""

    def small(self) -> Allocation:
        memory.keep_freed_memory()
        return Allocation(self.mib)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_cpu_memory_counts_what_was_freed_before() -> None:
    (row,) = measure.measure([Kept(192)], CPU, Rule(0, 1), silent)
    assert 191 < row["memory_mib"] < 300  # glibc takes 64 MiB more at once


def test_what_cannot_run_says_so_and_the_rest_goes_on(in_process: None) -> None:
    bad, good = measure.measure([Allocation(-1), Allocation(1)], CPU, Rule(1, 2), silent)
    assert bad["problem"] == "no such memory" and bad["median_ms"] is None
    assert sane(good, 2)


def test_a_process_that_dies_is_a_problem() -> None:
    (row,) = measure.measure([Crash(0)], CPU, Rule(1, 1), silent)
    assert "killed" in row["problem"] and row["median_ms"] is None


class Crash(Allocation):
    def small(self) -> Allocation:
        os._exit(9)


def test_the_papers_rule_is_for_gpus() -> None:
    assert Rule.of(torch.device("cuda")) == Rule(100, 100)
    assert Rule.of(torch.device("cuda", 1), 7) == Rule(100, 7)
    assert Rule.of(CPU).runs < 10


def test_networks_are_measured(in_process: None) -> None:
    before = torch.backends.cudnn.benchmark
    found = latency([NetworkCase("esc-light", 2, (12, 8))], CPU, Rule(1, 2), silent)
    (row,) = found["rows"]
    assert sane(row, 2)
    assert (row["model"], row["scale"], row["backend"], row["precision"]) == ("esc-light", 2, "sdpa", "fp32")
    assert row["parameters"] == 603600 and row["macs"] > 0 and row["paper"] is None
    assert (row["input"], row["output"], row["batch"]) == ((8, 12), (16, 24), 1)
    assert (found["warmup"], found["runs"]) == (1, 2)
    assert found["environment"]["threads"] == torch.get_num_threads()
    assert found["environment"]["cudnn_benchmark"] and torch.backends.cudnn.benchmark == before


def test_the_papers_figures_are_of_one_picture_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    def untimed(cases: list[NetworkCase], *_: Any) -> list[dict[str, Any]]:
        return [case.facts() for case in cases]

    monkeypatch.setattr("esc_sr.benchmark.latency.measure", untimed)
    case = NetworkCase("swinir-light", 4, (180, 320))
    cases = [case, replace(case, batch=2), replace(case, precision="bf16"), replace(case, input=(8, 8))]
    first, *others = latency(cases, CPU, Rule(1, 1), silent)["rows"]
    printed = {"latency_ms": 222.9, "memory_mib": 351, "gmacs": 63.6, "kparams": 930, "agrees": True}
    assert first["paper"] == printed and first["parameters"] == 929628
    assert [row["paper"] for row in others] == [None] * 3


def test_what_a_case_runs() -> None:
    with torch.inference_mode():
        lte = NetworkCase("esc-lte", 3, (5, 4), batch=2).prepare(CPU)()
        layer = AttentionCase(8, 12, "sdpa", "bf16").prepare(CPU)()
    assert isinstance(lte, torch.Tensor) and isinstance(layer, torch.Tensor)
    assert (lte.shape, lte.dtype) == ((2, 3, 15, 12), torch.float32)
    assert (layer.shape, layer.dtype) == ((1, 64, 12, 12), torch.bfloat16)


def test_attention_is_compared_with_naive(in_process: None) -> None:
    cases = [AttentionCase(24, 64, way) for way in ("naive", "sdpa")]  # 64 is padded to 72
    naive, sdpa = attention(cases, CPU, Rule(1, 2), silent)["rows"]
    assert sane(naive, 2) and sane(sdpa, 2)
    assert naive["padded"] == 72 and naive["latency_ratio"] == naive["memory_ratio"] == 1
    assert sdpa["latency_ratio"] == pytest.approx(naive["median_ms"] / sdpa["median_ms"])
    assert naive["paper"] == {"latency_ms": 7.6, "memory_mib": 111}
    assert sdpa["paper"] == {"latency_ms": 0.5, "memory_mib": 14}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_networks_are_measured_on_a_gpu(in_process: None) -> None:
    case = NetworkCase("esc-light", 4, (64, 64), backend="naive")
    found = latency([case], torch.device("cuda"), Rule(2, 3), silent)
    (row,) = found["rows"]
    assert sane(row, 3)
    assert 30 < row["memory_mib"] <= row["reserved_mib"]  # 4 windows, 4 heads, 1024^2 scores: 64 MiB
    assert found["environment"]["cuda"] == torch.version.cuda


def latencies(path: Path, **row: Any) -> Path:
    facts = {"model": "esc", "scale": 4, "median_ms": 20.0, "memory_mib": 200.0, "backend": "sdpa"}
    facts |= {"precision": "fp32", "input": (320, 180), "batch": 1}
    path.write_text(json.dumps(record.document("latency", [facts | row])))
    return path


def test_documents_come_back_as_they_were(tmp_path: Path) -> None:
    found = record.load(latencies(tmp_path / "a.json", times_ms=[1.5, 2.25]))
    assert found["kind"] == "latency"
    assert found["rows"][0]["times_ms"] == [1.5, 2.25] and found["rows"][0]["input"] == [320, 180]


def test_points_take_measured_psnr_before_the_papers(tmp_path: Path) -> None:
    files = [
        latencies(tmp_path / "a.json"),
        latencies(tmp_path / "b.json", model="esc-light", backend="flex"),
    ]
    unknown = latencies(tmp_path / "c.json", model="esc-xl")
    scores = tmp_path / "scores.json"
    row = {"model": "esc-light", "scale": 4, "set": "Urban100", "psnr_y": 25.5}
    scores.write_text(json.dumps({"rows": [row, row | {"set": "Set5", "psnr_y": 29.7}]}))
    esc, light = points([*files, unknown, scores], "Urban100")
    assert (esc.label, esc.psnr, esc.measured) == ("esc x4 sdpa", 27.07, False)
    assert (light.label, light.psnr, light.measured) == ("esc-light x4 flex", 25.5, True)


def test_plot_writes_a_picture(tmp_path: Path) -> None:
    files = [latencies(tmp_path / "a.json"), latencies(tmp_path / "b.json", scale=3, memory_mib=None)]
    assert len(plot(files, tmp_path / "figure.png")) == 2
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="figure.nonsense"):
        plot(files, tmp_path / "figure.nonsense")


def test_figure_1_has_all_of_table_2(tmp_path: Path) -> None:
    code, out, err = run("plot", "--paper", "4", "-o", tmp_path / "figure.png")
    assert (code, err) == (0, "") and out.count("of the paper") == len(paper.rows(2)) // 3
    assert "ATD-lt x4: 189.7 ms, 26.97 dB" in out and (tmp_path / "figure.png").exists()
    ours = latencies(tmp_path / "a.json")
    drawn = plot([ours], tmp_path / "figure.png", "Manga109", (4,))
    assert [point.label for point in drawn[:2]] == ["esc x4", "SwinIR-lt x4"]
    assert "ASID-D8 x4" not in {point.label for point in drawn}  # has none there
    with pytest.raises(UsageError, match="DIV2K"):
        plot([], tmp_path / "figure.png", "DIV2K", (4,))


def test_plot_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r'pip install "esc-sr\[plot\]"'):
        plot([latencies(tmp_path / "a.json")], tmp_path / "figure.png")


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["benchmark", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_command_complexity() -> None:
    code, out, err = run("complexity", "-n", "esc-light", "-s", "2")
    assert (code, err) == (0, "")
    assert "603.600" in out and "359.4" in out
    assert "esc-light x2, K parameters: paper 603, measured 603.6 (cut off, not rounded)" in out
    code, json_out, err = run("complexity", "-n", "esc-light", "-s", "2", "--json")
    assert (code, err) == (0, out)
    found = json.loads(json_out)
    assert found["rows"][0]["parameters"] == 603600 and found["environment"]["torch"] == torch.__version__


def test_command_latency_then_plot(tmp_path: Path) -> None:
    options = ("-s", "4", "--input", "8x9", "--runs", "2", "--device", "cpu", "--json")
    code, out, err = run("latency", "-n", "esc-light", *options)
    assert code == 0
    assert "esc-light" in err and "8x9" in err and "1 runs to warm up, then 2 timed" in err
    (tmp_path / "l.json").write_text(out)
    (row,) = record.load(tmp_path / "l.json")["rows"]
    assert sane(row, 2) and row["backend"] == best_backend(CPU)
    code, out, err = run("plot", tmp_path / "l.json", "-o", tmp_path / "figure.png")
    assert (code, err) == (0, "") and "26.76 dB of the paper" in out
    assert (tmp_path / "figure.png").stat().st_size > 0


def test_command_attention_says_what_is_padded_and_what_cannot_run(
    in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr("esc_sr.network.attention._flex", fail)
    options = ("--window", "24", "--side", "30", "--device", "cpu", "--runs", "2")
    code, out, err = run("attention", *options, "--backend", "naive", "--backend", "flex")
    assert (code, err) == (0, "")
    assert "30x30 as 48x48" in out and "window 24, flex: cannot run: no compiler here" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("complexity -n nonsense", "nonsense"),
        ("complexity -n esc-real -s 2", "scale 2"),
        ("complexity -n esc -s 2 -s 7", "scale 7"),
        ("complexity --output-size 1280", "WIDTHxHEIGHT"),
        ("complexity -s 4 --output-size 3x3", "nothing to enlarge"),
        ("complexity --table 3 -n esc", "--table 3"),
        ("latency --input 8x8 --output-size 8x8", "exclude"),
        ("latency --input 0x8", "WIDTHxHEIGHT"),
        ("latency --backend fast", "fast"),
        ("latency --precision fp64", "fp64"),
        ("latency --device cuda:99", "cuda:99"),
        ("attention --backend fast", "fast"),
        ("plot no.json -o a.png", "no.json"),
        ("plot -o a.png", "--paper 4"),
        ("plot no.json -o no/such/a.png", "no folder"),
        ("plot no.json -o .", "is a folder"),
    ],
)
def test_mistakes_are_one_line(
    arguments: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith("esc-sr: error: ") and err.count("\n") == 1 and words in err


@pytest.mark.parametrize("text", ["[]", "{}", '{"rows": [1]}', "not JSON"])
def test_other_files_are_no_documents(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UsageError, match="a.json"):
        record.load(tmp_path / "a.json")


def test_nothing_to_plot(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Manga109"):
        points([latencies(tmp_path / "a.json", model="esc-xl")], "Manga109")
    other = tmp_path / "b.json"  # of another benchmark, whose rows are of engines
    other.write_text(json.dumps(record.document("cpu", [{"model": "esc", "scale": 4, "median_ms": 9.0}])))
    with pytest.raises(UsageError, match="nothing to plot"):
        points([other], "Urban100")
