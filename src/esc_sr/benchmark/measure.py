"""Latency and peak memory of anything that runs, on any device (Sec. 4.2, Table 1).

Memory   each case runs in a process of its own, which fails alone. On CUDA, the most that PyTorch allocated
         and reserved during a run, weights and input included, as the paper has it. On a CPU, by how much the
         resident set grows at most during a run above that of the process with network and input loaded.
Latency  all cases in one process, warmed up one after another, then timed in turns: each case once per round,
         so that whatever slows the machine down for a while slows all of them. On CUDA between two events.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from esc_sr.machine.memory import give_back_freed_memory

Record = dict[str, Any]

Times = tuple[float, float]
"""Milliseconds of a run by the clock, and of CPU time of all threads together."""

INTERRUPTED = "interrupted before it was timed"


class Case(Protocol):
    """Something to measure; it is sent to another process."""

    def facts(self) -> Record:
        """What it is, for the record."""

    def small(self) -> "Case":
        """The same on a picture of two windows, to load code with."""

    def prepare(self, device: torch.device) -> Callable[[], object]:
        """Load everything, and return what is to be measured."""


@dataclass(frozen=True)
class Rule:
    """How often each case runs: some times unseen, one after another, then timed, once per round.

    Attributes:
        warmup: Runs before the timed ones.
        runs: Timed runs.
    """

    warmup: int
    runs: int

    @classmethod
    def of(cls, device: torch.device, runs: int | None = None) -> "Rule":
        """The paper's rule on a GPU (100 and 100), a short one elsewhere; with other `runs` if given."""
        if device.type == "cuda":
            return cls(100, runs or 100)
        return cls(1, runs or 5)


def measure(
    cases: Sequence[Case], device: torch.device, rule: Rule, report: Callable[[str], object]
) -> list[Record]:
    """Measure memory, then latency.

    Args:
        cases: What to measure.
        device: Where.
        rule: How often.
        report: Is told what is being measured.

    Returns:
        A record per case: its facts, median_ms, quartiles_ms, min_ms, max_ms, times_ms, cpu_times_ms and
        cpu_median_ms (CPU time of all threads), memory_mib, reserved_mib (CUDA) and problem. What could not
        run says why there, and has None for the numbers.
        After Ctrl-C while timing, of the rounds done.
    """
    records: list[Record] = []
    ready: list[tuple[Record, Callable[[], object], list[Times]]] = []
    for number, case in enumerate(cases, 1):
        report(f"memory {number}/{len(cases)}")
        record = {
            **case.facts(),
            "median_ms": None,
            "memory_mib": None,
            "reserved_mib": None,
            "problem": None,
        }
        record |= _in_child(case, device)
        records.append(record)
    with torch.inference_mode(), tuned():
        for number, (case, record) in enumerate(zip(cases, records, strict=True), 1):
            if record["problem"] is None:
                report(f"warm-up {number}/{len(cases)}")
                try:
                    run = case.prepare(device)
                    for _ in range(rule.warmup):
                        run()
                except Exception as error:  # whatever a backend raises, the other cases go on
                    record["problem"] = _line(error)
                else:
                    ready.append((record, run, []))
        with suppress(KeyboardInterrupt):  # what is timed so far is kept
            _take_turns([(run, times) for _, run, times in ready], device, rule.runs, report)
    for record, _, times in ready:
        record |= _summary(times) if times else {"problem": INTERRUPTED}
    return records


def _take_turns(
    ready: list[tuple[Callable[[], object], list[Times]]],
    device: torch.device,
    rounds: int,
    report: Callable[[str], object],
) -> None:
    """Time every run once per round, and append to its list."""
    for number in range(1, rounds + 1):
        report(f"round {number}/{rounds}")
        for run, times in ready:
            began = time.process_time()
            passed = milliseconds(run, device)
            times.append((passed, (time.process_time() - began) * 1e3))


def milliseconds(run: Callable[[], object], device: torch.device) -> float:
    """Time one run, from an idle device to an idle device, in ms."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            start.record()
            run()
            end.record()
            torch.cuda.synchronize()
            return float(start.elapsed_time(end))
    began = time.perf_counter()
    run()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return (time.perf_counter() - began) * 1e3


def _summary(measured: list[Times]) -> Record:
    """Milliseconds of the runs, and their quartiles and extremes."""
    times, cpu = ([*each] for each in zip(*measured, strict=True))
    lower, median, upper = np.percentile(times, [25, 50, 75]).tolist()
    return {
        "median_ms": median,
        "quartiles_ms": [lower, upper],
        "min_ms": min(times),
        "max_ms": max(times),
        "times_ms": times,
        "cpu_times_ms": cpu,
        "cpu_median_ms": float(np.median(cpu)),
    }


def _in_child(case: Case, device: torch.device) -> Record:
    """Measure the memory of a case in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(memory, case, str(device), torch.get_num_threads()).result()
        except BrokenProcessPool:
            return {"problem": "the process was killed; probably there was not enough memory"}


def memory(case: Case, device_name: str, threads: int) -> Record:
    """Measure the peak memory of one run, in MiB; meant for a process that does nothing else.

    Args:
        case: What to run.
        device_name: Where.
        threads: CPU threads.

    Returns:
        memory_mib, and on CUDA reserved_mib; or problem.
    """
    device = torch.device(device_name)
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode(), tuned():
            case.small().prepare(device)()
            run = case.prepare(device)
            return _cuda_memory(run, device) if device.type == "cuda" else _cpu_memory(run, device)
    except Exception as error:  # whatever a backend raises belongs into the record
        return {"problem": _line(error)}


def _cuda_memory(run: Callable[[], object], device: torch.device) -> Record:
    """The most that PyTorch allocated and reserved in a second run; the first loads code."""
    run()
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return {
        "memory_mib": torch.cuda.max_memory_allocated(device) / 2**20,
        "reserved_mib": torch.cuda.max_memory_reserved(device) / 2**20,
    }


def _cpu_memory(run: Callable[[], object], device: torch.device) -> Record:
    """By how much the resident set grows in a run; nothing where the system does not tell."""
    if device.type != "cpu" or not Path("/proc/self/clear_refs").exists():
        run()
        return {}  # nothing here tells the peak of a single run
    gc.collect()
    give_back_freed_memory()  # of what the run takes, nothing is there already
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    run()
    return {"memory_mib": (_status("VmHWM") - before) / 2**10}


def _status(field: str) -> int:
    """A field of this process's status on Linux, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _line(error: Exception) -> str:
    """What an exception says, in its first line, at most 200 letters of it."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


@contextmanager
def tuned() -> Iterator[None]:
    """Let cuDNN choose its kernels by trying them, as the paper's statistics do."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
