"""Seconds per megapixel and peak memory of whole runs, file to file, at several sizes.

Each size has a process of its own: the network is loaded and tried on a small picture, then a PNG or JPEG of
that size is read, enlarged and written. Memory is what the process takes at most above what it held before it
read; the kernel counts it (Linux). Seconds are of the wall, CPU seconds of all threads, and those that pass
in the network are counted as well: on a machine that others use too, CPU seconds say more.

    python scripts/bench_sizes.py 6000x4000 2000x1500 1000x1000 --max-memory 15GiB --json > sizes.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from esc_sr import record
from esc_sr.cli.output import for_people, print_json
from esc_sr.image import Picture, write_image
from esc_sr.upscaling.batch import BatchStatus, Choices, run
from esc_sr.upscaling.engine import Upscaler
from esc_sr.upscaling.files import Outcome, find_jobs
from esc_sr.upscaling.names import Names
from esc_sr.upscaling.runner import Runner


class EnoughError(Exception):
    """The part that is wished has gone through."""


def make(width: int, height: int) -> Picture:
    """Squares of 50 px with some noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (-(-height // 50), -(-width // 50), 3), dtype=np.uint8)
    pixels = coarse.repeat(50, 0).repeat(50, 1)[:height, :width]
    return Picture(pixels // 2 + rng.integers(0, 32, pixels.shape, dtype=np.uint8))


def resident(field: str) -> float:
    """A line of the kernel's account of this process, in GiB: VmRSS is now, VmHWM the most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 2**20


@contextmanager
def network_seconds(spent: list[float]) -> Iterator[None]:
    """Add to a list the CPU seconds of each step that a network takes."""
    original = Runner._network

    def timed(*arguments: Any) -> Iterator[tuple[int, torch.Tensor]]:
        steps = original(*arguments)
        while True:
            start = time.process_time()
            found = next(steps, None)
            spent.append(time.process_time() - start)
            if found is None:
                return
            yield found

    Runner._network = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        Runner._network = original  # type: ignore[method-assign]


def measure(source: Path, wanted: argparse.Namespace) -> dict[str, Any]:
    """Enlarge a file, or a part of it; the figures."""
    found: dict[str, Any] = {}
    spent: list[float] = []

    def report(outcome: Outcome) -> None:
        found.update(status=outcome.status, reason=outcome.reason)

    def stop(status: BatchStatus) -> None:
        if status.done > wanted.part * status.total:
            raise EnoughError

    plans: list[str] = []
    how = wanted.device, wanted.precision
    upscaler = Upscaler(wanted.model, wanted.scale, *how, max_memory=wanted.max_memory, report=plans.append)
    upscaler.upscale(make(64, 64).pixels)
    with tempfile.TemporaryDirectory() as target:
        jobs = find_jobs([source], target + "/", Names(), existing="overwrite").jobs
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
        before, start, cpu = resident("VmRSS"), time.perf_counter(), time.process_time()
        with network_seconds(spent), suppress(EnoughError):
            run(jobs, upscaler, report, Choices("overwrite"), progress=stop)
        found |= {"seconds": round(time.perf_counter() - start, 1)}
        found |= {"cpu_seconds": round(time.process_time() - cpu, 1)}
        found |= {"network_cpu_seconds": round(sum(spent), 1)}
    most = resident("VmHWM")
    found |= {"before_gib": round(before, 3), "most_gib": round(most, 3)}
    return found | {"peak_gib": round(most - before, 3), "plan": plans[-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sizes", nargs="*", metavar="WIDTHxHEIGHT")
    parser.add_argument("--model", default="esc-light")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--part", type=float, default=1, help="of the picture, after which it is left off")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--max-memory")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--suffix", default="png", help="of the pictures, png or jpg")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    if wanted.file:
        print_json(measure(wanted.file, wanted))
        return
    facts = {"model": wanted.model, "max_memory": wanted.max_memory, "precision": wanted.precision}
    facts |= {"environment": record.environment(torch.device(wanted.device))}
    rows: list[dict[str, Any]] = []
    for size in wanted.sizes:
        width, height = map(int, size.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, f"in.{wanted.suffix}")
            write_image(make(width, height), source)
            given = [sys.executable, __file__, *sys.argv[1:], "--file", str(source)]
            printed = subprocess.run(given, check=True, stdout=subprocess.PIPE).stdout
            row = {"width": width, "height": height} | json.loads(printed)
        for kind in ("seconds", "cpu_seconds"):
            row[f"{kind}_per_megapixel"] = round(row[kind] / (width * height / 1e6), 1)
        rows.append(row)
        with for_people(wanted.json):
            print(row, flush=True)
    if wanted.json:
        print_json(record.document("sizes", rows, **facts))


if __name__ == "__main__":
    main()
