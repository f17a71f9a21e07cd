"""How the nodes of a cluster are parted into workers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from esc_sr.cluster.work import WorkerMeans
from esc_sr.machine.memory import SAFE_PART

CORES = 4
"""Cores of a worker on a CPU, unless the user says otherwise."""

BESIDE = 2**30
"""Bytes of main memory that a worker takes beside a picture: PyTorch, the weights, a picture that waits."""

LEAST = 2**31
"""Bytes that a worker has at least, so that there are fewer where memory is short."""


class Wish(NamedTuple):
    """What the user says of workers.

    Attributes:
        threads: Cores of each; None is `CORES`, or what the node has.
        device: "auto"; "cpu"; or "cuda", for no workers where there is no GPU.
        memory: Bytes that a picture may take; None is a safe part of the node's, shared by its workers.
    """

    threads: int | None = None
    device: str = "auto"
    memory: int | None = None


class Share(NamedTuple):
    """Workers on a node.

    Attributes:
        workers: How many.
        gpus: Of each: 0 or 1.
        means: Of each.
        memory: Bytes that each asks Ray for.
    """

    workers: int
    gpus: int
    means: WorkerMeans
    memory: int


def share(resources: Mapping[str, Any], wish: Wish) -> Share:
    """Part a node: a worker for each GPU, or for each group of cores, as far as its memory goes."""
    cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    on_gpu = gpus > 0 and wish.device != "cpu"
    threads = min(wish.threads or CORES, max(cores // gpus, 1) if on_gpu else cores)
    count = min(gpus, cores) if on_gpu or wish.device == "cuda" else cores // max(threads, 1)
    total = int(SAFE_PART * resources.get("memory", 0))
    least = LEAST if wish.memory is None else wish.memory + BESIDE
    count = min(count, max(total // least, int(wish.memory is None)))
    memory = total // max(count, 1) if wish.memory is None else least
    device = wish.device if on_gpu else "cpu"
    return Share(count, int(on_gpu), WorkerMeans(threads, device, max(memory - BESIDE, BESIDE // 4)), memory)
