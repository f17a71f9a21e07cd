"""The jobs of the server, one after the other."""

import contextlib
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from esc_sr.app.job import AppJob, Asked, JobStatus
from esc_sr.app.limits import Limits, RefusalError


class Jobs:
    """The queue: one thread computes, whoever asks is told.

    Attributes:
        limits: How much is taken.
        closing: Whether the server ends.
    """

    def __init__(self, folder: Path, limits: Limits, work: Callable[[AppJob], object]) -> None:
        """Begin.

        Args:
            folder: In which each job has a folder of its own.
            limits: How much is taken.
            work: Does a job: from its source to its target.
        """
        self.limits = limits
        self._folder, self._work = folder, work
        self._jobs: dict[str, AppJob] = {}
        self._queue: list[AppJob] = []
        self._coming = 0
        self._reserved: dict[str, int] = {}
        self._changed = threading.Condition()
        self.closing = False
        self._yields = threading.Event()
        self._yields.set()
        self._thread = threading.Thread(target=self._serve, name="upscaling", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def coming(self, size: int) -> Iterator[tuple[str, Path]]:
        """A place in the queue, and room, for a job that comes: its name, and a folder for it.

        The folder is gone afterwards if the job was not added.

        Args:
            size: Bytes of its file, at most.

        Raises:
            RefusalError: There is none.
        """
        id = secrets.token_urlsafe(24)
        with self._changed:
            if self._coming + sum(not job.over for job in self._jobs.values()) >= self.limits.jobs:
                raise RefusalError(
                    429, f"{self.limits.jobs} pictures wait already; come back when one is done"
                )
            self._reserve(id, size)
            self._coming += 1
        folder = self._folder / id
        try:
            folder.mkdir(mode=0o700)
            yield id, folder
        finally:
            with self._changed:
                self._coming -= 1
                added = id in self._jobs
            if not added:
                self._clear(id)

    def add(self, id: str, asked: Asked) -> AppJob:
        """Queue a job that came.

        Raises:
            RefusalError: There is no room for its result.
        """
        job = AppJob(id, self._folder / id, asked, self.limits, self._yields)
        with self._changed:
            self._reserve(id, asked.reserved)
            self._jobs[id] = job
            self._queue.append(job)
            self._changed.notify_all()
        return job

    def find(self, id: str) -> AppJob:
        """The job of that name.

        Raises:
            RefusalError: There is none, or no more.
        """
        with self._changed:
            if id in self._jobs:
                return self._jobs[id]
        raise RefusalError(404, "no such job: cancelled, deleted after its time, or of another server")

    def status(self, job: AppJob) -> JobStatus:
        """What is told of a job."""
        with self._changed:
            before = self._queue.index(job) if job in self._queue else 0
            running = any(other.state == "running" for other in self._jobs.values())
        return job.status(before + running if job.state == "queued" else 0)

    def remove(self, job: AppJob) -> None:
        """Forget a job: its files go at once, or as soon as the network and its readers let go of them."""
        with self._changed:
            if self._jobs.pop(job.id, None) is None:
                return
            job.cancel()
            if job in self._queue:
                self._queue.remove(job)
            used = job.readers
        if not used:
            self._clear(job.id)

    @contextlib.contextmanager
    def read(self, jobs: list[AppJob]) -> Iterator[None]:
        """Keep the files of jobs, even of those that are removed meanwhile.

        Raises:
            RefusalError: One is removed already.
        """
        with self._changed:
            for job in jobs:
                self.find(job.id)
            for job in jobs:
                job.readers += 1
        try:
            yield
        finally:
            self._let_go(jobs)

    def sweep(self) -> None:
        """Forget the jobs whose time is over."""
        before = time.monotonic() - self.limits.keep_seconds
        with self._changed:
            old = [job for job in self._jobs.values() if job.ended is not None and job.ended <= before]
        for job in old:
            self.remove(job)

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        """Have the network to oneself: jobs wait, within a band, until this is over."""
        self._yields.clear()
        try:
            yield
        finally:
            self._yields.set()

    def close(self) -> None:
        """Cancel all that is not done, and wait for the network."""
        with self._changed:
            self.closing = True
            for job in self._jobs.values():
                job.cancel()
            self._queue.clear()
            self._changed.notify_all()
        self._yields.set()
        self._thread.join(60)

    def _serve(self) -> None:
        """Do one job after the other."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.closing or self._queue)
                if self.closing:
                    return
                job = self._queue.pop(0)
                job.readers += 1
            job.run(self._work)
            self._let_go([job])

    def _let_go(self, jobs: list[AppJob]) -> None:
        """Use the files of jobs no more: count them anew; those of jobs that were removed meanwhile go."""
        with self._changed:
            for job in jobs:
                job.readers -= 1
                if job.id in self._jobs:
                    self._reserved[job.id] = job.taken
            gone = [job.id for job in jobs if not job.readers and job.id not in self._jobs]
        for id in gone:
            self._clear(id)

    def _reserve(self, id: str, size: int) -> None:
        """Keep room on the disk for a job; under the lock.

        Raises:
            RefusalError: There is too little.
        """
        others = sum(room for owner, room in self._reserved.items() if owner != id)
        free = shutil.disk_usage(self._folder).free
        if others + size > self.limits.disk_bytes or size > free:
            raise RefusalError(
                507, "no room on the disk for this picture; delete results, or come back later"
            )
        self._reserved[id] = size

    def _clear(self, id: str) -> None:
        """Remove a job's files."""
        shutil.rmtree(self._folder / id, ignore_errors=True)
        with self._changed:
            self._reserved.pop(id, None)
