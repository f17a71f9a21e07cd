"""What the addresses of the server work with: the queue, and one thread for what goes before it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from esc_sr.app import work
from esc_sr.app.archive import pack, told_apart
from esc_sr.app.job import AppJob
from esc_sr.app.jobs import Jobs
from esc_sr.app.limits import Limits, RefusalError
from esc_sr.app.scratch import Scratch
from esc_sr.app.upload import receive, size_sent
from esc_sr.upscaling.sizes import wish

if TYPE_CHECKING:
    from fastapi import Request

_TICK, _ALIVE = 0.1, 15.0  # seconds between looks at a job, and between signs of life

Result = TypeVar("Result")


class Office:
    """The queue, and what goes on beside it.

    Attributes:
        limits: How much is taken.
        jobs: The queue.
    """

    def __init__(self, limits: Limits, device: str, scratch: Path | None, ends: Callable[[], bool]) -> None:
        self.limits, self._device, self._ends = limits, device, ends
        self._scratch = Scratch(scratch)
        self.jobs = Jobs(self._scratch.folder, limits, partial(work.upscale, device=device))
        self._aside = ThreadPoolExecutor(1, "previews")
        self._waiting = 0

    def close(self) -> None:
        """End all work, and remove all files."""
        self.jobs.close()
        self._aside.shutdown(cancel_futures=True)
        self._scratch.close()

    async def aside(self, call: Callable[[], Result]) -> Result:
        """Do something beside the queue, one at a time.

        Raises:
            RefusalError: Too many wait for that already.
        """
        if self._waiting >= self.limits.previews:
            raise RefusalError(429, "too many previews at once; come back in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._aside, call)
        finally:
            self._waiting -= 1

    async def admit(self, request: "Request", **wishes: Any) -> AppJob:
        """Take a picture in.

        Raises:
            RefusalError: It is not taken.
            UsageError: What is wished cannot be.
        """
        size = wish(
            **{side: wishes.pop(side) for side in ("scale", "width", "height", "longest", "shortest")}
        )
        sent = size_sent(request.headers.get("content-length"), self.limits)
        with self.jobs.coming(sent) as (id, folder):
            await receive(aiter(request.stream()), folder / "source", self.limits)
            look = partial(work.look, folder / "source", size=size, limits=self.limits, **wishes)
            return self.jobs.add(id, await asyncio.to_thread(look))

    async def finish(self, job: AppJob, request: "Request") -> None:
        """Wait for a job, and cancel it if the client leaves."""
        while not job.over:
            if self._ends() or await request.is_disconnected():
                self.jobs.remove(job)
            await asyncio.sleep(_TICK)

    async def events(self, job: AppJob) -> AsyncIterator[str]:
        """What becomes of a job, told whenever it changes, until nothing more happens to it."""
        last, quiet = "", 0.0
        while True:
            over = job.over
            now = json.dumps(asdict(self.jobs.status(job)))
            if now != last:
                yield f"data: {now}\n\n"
                last, quiet = now, 0.0
            elif quiet > _ALIVE:
                yield ": still here\n\n"
                quiet = 0.0
            if over or self._ends():
                return
            await asyncio.sleep(_TICK)
            quiet += _TICK

    def pack(self, jobs: list[AppJob]) -> Generator[bytes, None, None]:
        """The bytes of an archive of results; what is removed meanwhile stays in it."""
        with self.jobs.read(jobs):
            names = told_apart(job.asked.target for job in jobs)
            yield from pack(zip(names, (job.target for job in jobs), strict=True))

    async def view(self, job: AppJob, file: Path, name: str) -> tuple[Path, str]:
        """A file of a job for browsers, as `work.view` has it.

        Raises:
            RefusalError: As `aside`, or the job is removed already.
        """

        def make() -> tuple[Path, str]:
            with self.jobs.read([job]):
                return work.view(file, name)

        return await self.aside(make)

    async def preview(self, job: AppJob, box: work.Box, request: "Request") -> bytes:
        """A part of a picture, before all jobs, as `work.preview` has it; given up if the client leaves.

        Raises:
            RefusalError: As `view`.
        """
        left = Event()

        def make() -> bytes:
            with self.jobs.read([job]), self.jobs.first():
                return work.preview(job, box, self._device, gone)

        def gone() -> bool:
            return left.is_set() or job.state == "cancelled" or self.jobs.closing

        making = asyncio.ensure_future(self.aside(make))
        while not making.done():
            if await request.is_disconnected():
                left.set()
            await asyncio.wait((making,), timeout=_TICK)
        return making.result()
