"""What a worker does with pictures: read, claim, enlarge, write, as a run on one machine does."""

import time
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from threading import Lock
from typing import NamedTuple

from esc_sr.cluster.work import Given, Wants, WorkerMeans, sha256_of
from esc_sr.errors import DeviceError, EscError, UsageError
from esc_sr.upscaling.batch import Choices, Task
from esc_sr.upscaling.engine import Upscaler
from esc_sr.upscaling.files import Job, Outcome, header_of
from esc_sr.upscaling.places import Place, claim, header_in, is_file
from esc_sr.upscaling.sizes import Size
from esc_sr.weights import bundled_scales, files_of

_PATIENCE, _PAUSE = 30.0, 0.2  # seconds to wait for claims that dead workers may still hold, and between


class NetworkChoice(NamedTuple):
    """Which network, and how it is used: the arguments of `Upscaler` that they are called after."""

    model: str
    size: Size | None
    precision: str = "fp32"
    self_ensemble: bool = False
    engine: str = "auto"
    denoise: float | None = None


class Facts(NamedTuple):
    """What is the same on all nodes.

    Attributes:
        size: What pictures become.
        sha256: Of the weights, by the scale of the network; None where that has no scale of its own.
    """

    size: Size
    sha256: dict[int | None, str]


class Enlarged(NamedTuple):
    """What became of a picture; the device, and where it is done the SHA-256 of the weights."""

    outcome: Outcome
    device: str
    sha256: str | None = None


class Enlarging:
    """`ClusterWork` on jobs, which gives `Enlarged`."""

    def __init__(self, network: NetworkChoice, choices: Choices) -> None:
        self._network, self._choices = network, choices

    def prepare(self, means: WorkerMeans) -> Facts:
        """Load the network."""
        self._means, self._computing = means, Lock()
        self._upscaler = cache(self._load)
        size = self._upscaler(1).size
        scales: list[int | None] = [*self._scales] or [None]
        return Facts(size, {scale: self._sha256_at(scale) for scale in scales})

    def do(self, job: Job, given: Given) -> Enlarged | Wants:
        """Do a picture, or say that its plan wants more memory than it is given."""
        upscaler = self._upscaler(given.shares)
        device, choices = str(upscaler.device), self._choices
        task = Task(job, choices).fetch()
        try:
            sides = header_of(task.fetched).sides
            wanted = self._wanted(sides, given)
        except EscError:
            sides, wanted = None, given.shares  # reading it, or computing, says what is wrong
        if wanted > given.shares:
            return Wants(wanted)
        if given.again:
            clear_after_death([job.target])
            if choices.existing != "overwrite" and is_file(job.target):
                return Enlarged(_found_done(task.fetched), device, self._sha256(sides))
        try:
            task.read()
            with self._computing:
                task.compute(upscaler, lambda done: None)
            task.write()
        finally:
            task.drop()
        done = task.outcome.status == "done"
        return Enlarged(task.outcome, device, self._sha256(sides) if done else None)

    def _load(self, shares: int) -> Upscaler:
        """The network with the memory of so many workers."""
        network, means = self._network, self._means
        budget = shares * means.memory if means.device == "cpu" else None
        return Upscaler(
            network.model,
            network.size,
            means.device,
            network.precision,
            network.self_ensemble,
            budget,
            notify=lambda text: None,
            engine=network.engine,
            denoise=network.denoise,
        )

    def _wanted(self, sides: tuple[int, int], given: Given) -> int:
        """Workers whose memory a picture takes, so that it is done in memory; or else exactly; or else all.

        A network that does not tell what it takes has everything.
        """
        exact = None
        for shares in range(given.shares, given.most + 1):
            try:
                plan = self._upscaler(shares).plan(*sides)
            except DeviceError:
                continue
            if plan is None or (plan.exact and not plan.in_file):
                return shares
            if plan.exact and exact is None:
                exact = shares
        return exact or given.most

    def _sha256(self, sides: tuple[int, int] | None) -> str | None:
        """Of the weights of the network that a picture of some height and width went through."""
        if sides is None:
            return None
        try:
            own = self._upscaler(1).own(*sides) if self._scales else None
        except UsageError:
            return None
        return self._sha256_at(own)

    @property
    def _scales(self) -> list[int]:
        """The scales of a name that leaves it open."""
        return bundled_scales(self._network.model, self._network.denoise)

    def _sha256_at(self, scale: int | None) -> str:
        """Of the weights' file, or of a text that says of which files, and by which share, a mixture is."""
        model, denoise = self._network.model, self._network.denoise
        found = [sha256_of(file) for file in files_of(model, scale, denoise)]
        return found[0] if len(found) == 1 else sha256(" ".join([*found, f"{denoise}"]).encode()).hexdigest()


def clear_after_death(targets: Iterable[Place]) -> None:
    """Wait for the system to end the claims of workers that died, and clear away what those left."""
    end = time.monotonic() + _PATIENCE
    for target in targets:
        while True:
            try:
                claim(target).close()
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(_PAUSE)
                    continue
            except OSError:
                pass
            break


def _found_done(job: Job) -> Outcome:
    """What a worker did that died before it could say so."""
    before, after = header_of(job).sides, header_in(job.target).sides
    return Outcome(job.source, job.target, "done", size=before, target_size=after)
