"""What a cluster costs: pictures a second beside a plain run, and the memory of a listing of millions.

`speed` makes pictures and enlarges them by a plain run in this process, and on a local Ray cluster with one
and with two workers of a core each: pictures a second from the first to the last, seconds until the first,
what a picture takes more than in the plain run, and what it takes of the CPU where the run was begun. Give it
cores of its own.

`listing` goes through names that are nowhere, in folders of a thousand, as a run does: listed by Ray Data,
the largest of each window first, outputs taken, noted, and written down as done. Seconds, and the CPU
seconds and the resident memory of this process as it goes on.

    python scripts/bench_cluster.py speed --count 200 --side 128
    python scripts/bench_cluster.py listing --count 10000000
"""

import argparse
import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path, PurePath

import torch
from bench_folder import make

from esc_sr.cluster.address import connected, import_ray
from esc_sr.cluster.enlarging import Enlarged, Facts, NetworkChoice
from esc_sr.cluster.index import Index
from esc_sr.cluster.listing import PICTURE, Examined, Walked, windows
from esc_sr.cluster.manifest import Manifest
from esc_sr.cluster.nodes import Wish
from esc_sr.cluster.pool import Done
from esc_sr.cluster.upscale import ClusterRun, Ledger, Listener, upscale
from esc_sr.upscaling.batch import Choices, run
from esc_sr.upscaling.engine import Upscaler
from esc_sr.upscaling.files import Job, Outcome, find_jobs
from esc_sr.upscaling.folders import Found
from esc_sr.upscaling.names import Names
from esc_sr.upscaling.sizes import Size


def resident() -> float:
    """MiB of this process."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024


def rate(ends: list[float]) -> float:
    """Pictures a second between the first and the last."""
    return (len(ends) - 1) / (ends[-1] - ends[0])


def plain(source: Path, out: Path, model: str) -> float:
    ends: list[float] = []
    jobs = find_jobs([source], str(out), Names(), existing="overwrite").jobs
    upscaler = Upscaler(model, 2, "cpu")
    run(jobs, upscaler, lambda outcome: ends.append(time.perf_counter()), Choices("overwrite"))
    return rate(ends)


def clustered(source: Path, out: Path, model: str, workers: int) -> float:
    from ray.cluster_utils import Cluster

    ray = import_ray()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": workers, "include_dashboard": False})
    ends: list[float] = []
    spent: list[float] = []

    def say(outcome: Outcome, device: str | None) -> None:
        ends.append(time.perf_counter())
        spent.append(time.process_time())

    try:
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
        begun = time.perf_counter()
        network = NetworkChoice(model, Size("scale", 2))
        todo = ClusterRun([source], out, "{stem}_{size}", None, network, Choices("overwrite"), Wish(1, "cpu"))
        upscale(todo, "ray", Listener(lambda size: None, say))
    finally:
        ray.shutdown()
        cluster.shutdown()
    own = 1000 * (spent[-1] - spent[0]) / (len(spent) - 1)
    first = ends[0] - begun
    print(
        f"{workers} worker(s): the first picture after {first:.1f} s, {own:.1f} CPU ms here a picture",
        flush=True,
    )
    return rate(ends)


def speed(count: int, side: int, model: str, rounds: int) -> None:
    torch.set_num_threads(1)
    rates: dict[str, list[float]] = {"plain": [], "1 worker": [], "2 workers": []}
    with tempfile.TemporaryDirectory() as name:
        source, out = Path(name, "in"), Path(name, "out")
        source.mkdir()
        out.mkdir()
        make(source, count, side, ".png")
        for _ in range(rounds):
            rates["plain"].append(plain(source, out, model))
            rates["1 worker"].append(clustered(source, out, model, 1))
            rates["2 workers"].append(clustered(source, out, model, 2))
    print(f"{count} x {side} x {side} .png, {model} x2, cpu, one thread a worker")
    alone = statistics.median(rates["plain"])
    for kind, found in rates.items():
        median = statistics.median(found)
        extra = f"  {1000 / median - 1000 / alone:+.1f} ms a picture" if kind == "1 worker" else ""
        print(f"{kind:10} {median:8.2f} pictures/s  ratio {median / alone:.2f}{extra}")


def names(count: int) -> Iterator[Walked]:
    """Pictures that are nowhere."""
    for number in range(count):
        place = PurePath(f"{number // 1000:06}")
        yield PICTURE, Found(Path("/in") / place / f"{number:09}.jpg", place, False), ""


def pretend(entry: Walked, out: Path) -> Examined:
    """What is known of one of them, without a look at the disk."""
    found: Found = entry[1]
    target = out / found.below / f"{found.path.stem}_2x.jpg"
    return Examined(PICTURE, Job(found.path, target), "", "", hash(found.path) % 10**8, str(target).encode())


def listing(count: int) -> None:
    facts = Facts(Size("scale", 2), {2: "0" * 64})
    heard = Listener(lambda size: None, lambda outcome, device: None)
    with tempfile.TemporaryDirectory() as name, connected("ray") as ray, Index() as index:
        out = Path(name)
        with Manifest(out, index, {"model": "none"}, None) as manifest:
            ledger = Ledger(index, manifest, facts, Choices(), heard)
            begun = time.perf_counter()
            step = min(100_000, max(count // 20, 1))
            with closing(windows(ray, partial(names, count), partial(pretend, out=out))) as found:
                for number, piece in enumerate(ledger.pieces(found), 1):
                    outcome = Outcome(piece.item.source, piece.item.target, "done", "", (9, 9), (18, 18), 1.0)
                    ledger.done(Done(piece.item, Enlarged(outcome, "cpu", "0" * 64), "node"))
                    if number % step == 0:
                        wall, own = time.perf_counter() - begun, time.process_time()
                        memory = f"{resident():6.0f} MiB"
                        print(f"{number:10} names  {wall:7.0f} s  {own:7.1f} CPU s  {memory}", flush=True)


def main() -> None:
    os.environ["RAY_worker_niceness"] = "0"  # as the plain run
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["speed", "listing"])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--side", type=int, default=128, help="of each picture, in pixels")
    parser.add_argument("--model", default="esc-light")
    parser.add_argument("--rounds", type=int, default=1)
    wanted = parser.parse_args()
    if wanted.what == "speed":
        speed(wanted.count, wanted.side, wanted.model, wanted.rounds)
    else:
        listing(wanted.count)


if __name__ == "__main__":
    main()
