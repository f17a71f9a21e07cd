"""The HTTP API, and the page: addresses to calls of `jobs` and `work`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from esc_sr import __version__
from esc_sr.app import work
from esc_sr.app.api_page import describe
from esc_sr.app.failures import failing, say_failures
from esc_sr.app.guard import Application, Guard
from esc_sr.app.job import AppJob, JobStatus
from esc_sr.app.limits import Limits, RefusalError
from esc_sr.app.office import Office
from esc_sr.app.sent import sent
from esc_sr.upscaling import DEFAULT_MODEL
from esc_sr.weights import ADVICE, bundled_scales

if TYPE_CHECKING:
    from fastapi import FastAPI, Response

PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class AppModel:
    """A network that can be chosen.

    Attributes:
        name: Bundled name.
        advice: What it is for.
        scales: Those that it has; none: any.
        default: Whether it is taken by default.
        denoise: Whether that can be chosen.
    """

    name: str
    advice: str
    scales: list[int]
    default: bool
    denoise: bool


def make_app(
    limits: Limits = Limits(),
    device: str = "auto",
    hosts: frozenset[str] = frozenset(),
    token: str | None = None,
    scratch: Path | None = None,
    ends: Callable[[], bool] = lambda: False,
) -> Application:
    """The server, as an application of ASGI; it works from its start to its shutdown.

    Args:
        limits: How much it takes.
        device: Where to compute.
        hosts: As of `Guard`.
        token: As of `Guard`.
        scratch: Where its folder is; by default where temporary files lie.
        ends: Whether the server is about to end, so that nobody is to wait for anything.
    """
    from fastapi import FastAPI

    offices: list[Office] = []

    @contextlib.asynccontextmanager
    async def live(app: "FastAPI") -> AsyncIterator[None]:
        office = await asyncio.to_thread(Office, limits, device, scratch, ends)
        offices.append(office)
        sweeping = asyncio.create_task(_sweep(office))
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.to_thread(office.close)

    app = FastAPI(
        title="esc-sr",
        version=__version__,
        description="Enlarges pictures. All that fails answers with a JSON object that says why: error.",
        docs_url=None,
        redoc_url=None,
        responses=failing(401, 421),
        lifespan=live,
    )
    say_failures(app)
    _add_files(app)
    _add_models(app)
    _add_upscale(app, lambda: offices[0])
    _add_jobs(app, lambda: offices[0])
    _add_pictures(app, lambda: offices[0])
    return Guard(app, hosts, token)


async def _sweep(office: Office) -> None:
    """Forget old jobs, for ever."""
    while True:
        await asyncio.sleep(min(office.limits.keep_seconds / 4, 60))
        await asyncio.to_thread(office.jobs.sweep)


def _add_files(app: "FastAPI") -> None:
    """The page, its files, and the description of the API for people."""
    from fastapi.responses import HTMLResponse, Response

    for file in sorted(PAGE.iterdir()):
        answer = partial(Response, file.read_bytes(), media_type=_TYPES[file.suffix])
        path = "/" if file.name == "index.html" else f"/{file.name}"
        app.add_api_route(path, _giving(answer), include_in_schema=False)

    @app.get("/api", include_in_schema=False)
    async def api() -> HTMLResponse:
        return HTMLResponse(describe(app.openapi()))


def _giving(answer: Callable[[], "Response"]) -> Callable[[], Awaitable[Any]]:
    """A route that takes nothing, and always answers the same."""

    async def give() -> Any:
        return answer()

    return give


def _add_models(app: "FastAPI") -> None:
    """What can be chosen."""

    @app.get("/v1/models", summary="List the networks, the best one first")
    async def models() -> list[AppModel]:
        found = await asyncio.to_thread(work.models)
        return [
            AppModel(name, ADVICE.get(name, ""), scales, name == DEFAULT_MODEL, bool(bundled_scales(name, 1)))
            for name, scales in found.items()
        ]


_NO_JOB = failing(404)


def _file(description: str, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """An answer that is a picture, or a failure."""
    content = {"image/*": {"schema": {"type": "string", "format": "binary"}}}
    return {200: {"description": description, "content": content}, **failing(*statuses, 422, 500)}


def _add_upscale(app: "FastAPI", office: Callable[[], Office]) -> None:
    """Pictures in."""
    from fastapi import BackgroundTasks, Query, Request, Response
    from fastapi.responses import JSONResponse

    schema = {"schema": {"type": "string", "format": "binary"}}
    body = {"required": True, "content": {"application/octet-stream": schema}}

    async def upscale(
        request: Request,
        model: Annotated[str, Query(description="A name of /v1/models.")] = DEFAULT_MODEL,
        scale: Annotated[float | None, Query(description="Enlargement, 1 to 64; by default 2.")] = None,
        width: Annotated[int | None, Query(description="Of the result, px, in place of scale.")] = None,
        height: Annotated[int | None, Query(description="Likewise.")] = None,
        longest: Annotated[int | None, Query(description="Longest side, likewise.")] = None,
        shortest: Annotated[int | None, Query(description="Shortest side, likewise.")] = None,
        denoise: Annotated[
            float | None, Query(description="How much noise goes, 0 to 1, of models that say denoise.")
        ] = None,
        format: Annotated[
            str | None, Query(description="png, jpg, webp, tiff, avif or gif; by default as it came, or png.")
        ] = None,
        name: Annotated[str, Query(description="What to call the picture; no path.")] = "",
        wait: Annotated[bool, Query(description="Answer with the result, when it is done.")] = False,
    ) -> Response:
        """Send the bytes of a picture file; get a job, or with `wait` the enlarged file.

        Whoever waits and leaves cancels the job; the result is deleted when it is sent.
        """
        jobs = office().jobs
        job = await office().admit(
            request, name=name, model=model, format=format, denoise=denoise,
            scale=scale, width=width, height=height, longest=longest, shortest=shortest,
        )  # fmt: skip
        if not wait:
            return JSONResponse(asdict(jobs.status(job)), 202, {"location": f"/v1/jobs/{job.id}"})
        await office().finish(job, request)
        if job.state != "done":
            jobs.remove(job)
            raise RefusalError(job.code if job.state == "failed" else 410, job.error or "cancelled")
        after = BackgroundTasks()
        after.add_task(jobs.remove, job)
        return sent(job.target, filename=job.asked.target, background=after)

    app.put("/v1/upscale", include_in_schema=False)(upscale)  # curl -T
    app.post(
        "/v1/upscale",
        summary="Enlarge a picture",
        status_code=202,
        response_model=JobStatus,
        responses=_file("With wait: the enlarged file", 400, 403, 408, 410, 413, 415, 429, 503, 507),
        openapi_extra={"requestBody": body},
    )(upscale)


def _add_jobs(app: "FastAPI", office: Callable[[], Office]) -> None:
    """How jobs are, and their end."""
    from fastapi.responses import StreamingResponse

    @app.get("/v1/jobs/{id}", summary="How a job is", responses=_NO_JOB)
    async def status(id: str) -> JobStatus:
        return office().jobs.status(office().jobs.find(id))

    @app.get(
        "/v1/jobs/{id}/events",
        summary="How a job is, and whenever that changes",
        response_class=StreamingResponse,
        responses={
            200: {"description": "Server-sent events", "content": {"text/event-stream": {}}},
            **_NO_JOB,
        },
    )
    async def events(id: str) -> StreamingResponse:
        """Each event is the job as a JSON object, whole, so that nothing is lost by asking anew."""
        told = office().events(office().jobs.find(id))
        return StreamingResponse(told, media_type="text/event-stream")

    @app.delete(
        "/v1/jobs/{id}",
        summary="Cancel a job, and delete its files",
        status_code=204,
        responses=failing(403, 404),
    )
    async def delete(id: str) -> None:
        await asyncio.to_thread(office().jobs.remove, office().jobs.find(id))


def _add_pictures(app: "FastAPI", office: Callable[[], Office]) -> None:
    """Pictures out."""
    from fastapi import Query, Request
    from fastapi.responses import FileResponse, Response, StreamingResponse

    def done(id: str) -> AppJob:
        job = office().jobs.find(id)
        if job.state != "done":
            raise RefusalError(409, job.error or "the result is not there yet")
        return job

    @app.get(
        "/v1/jobs/{id}/result", summary="The enlarged file", responses=_file("The file", 400, 404, 409, 416)
    )
    async def result(id: str) -> FileResponse:
        job = done(id)
        return sent(job.target, filename=job.asked.target)

    @app.get(
        "/v1/results",
        summary="Many enlarged files, as one ZIP archive",
        response_class=StreamingResponse,
        responses={
            200: {"description": "The archive", "content": {"application/zip": {}}},
            **failing(404, 409, 422),
        },
    )
    async def results(id: Annotated[list[str], Query(description="Of jobs that are done.")]) -> Response:
        """Files of one name are numbered."""
        packed = office().pack([done(one) for one in dict.fromkeys(id)])
        headers = {"content-disposition": 'attachment; filename="pictures.zip"'}
        return StreamingResponse(packed, media_type="application/zip", headers=headers)

    @app.get(
        "/v1/jobs/{id}/before",
        summary="The picture, for browsers",
        responses=_file("The picture", 400, 404, 415, 416, 429, 507),
    )
    async def before(id: str) -> FileResponse:
        job = office().jobs.find(id)
        path, kind = await office().view(job, job.source, job.asked.name)
        return sent(path, media_type=kind)

    @app.get(
        "/v1/jobs/{id}/after",
        summary="The result, for browsers",
        responses=_file("The result", 400, 404, 409, 415, 416, 429, 507),
    )
    async def after(id: str) -> FileResponse:
        job = done(id)
        path, kind = await office().view(job, job.target, job.asked.target)
        return sent(path, media_type=kind)

    side = Annotated[int, Query(ge=1, le=2**20)]
    place = Annotated[int, Query(ge=0, le=2**20)]

    @app.post(
        "/v1/jobs/{id}/preview",
        summary="A part of a picture, at once",
        responses=_file("A PNG", 400, 403, 404, 410, 415, 429, 503, 507),
    )
    async def preview(
        request: Request, id: str, left: place, top: place, width: side, height: side
    ) -> Response:
        """The middle of the box, in pixels of the picture; the header `preview-box` says which part that is.

        Left, top, width and height. It differs a little from the result: the network sees no more than this.
        """
        job = office().jobs.find(id)
        box = work.Box(left, top, width, height).within(job.asked.sides, work.PREVIEW_SIDE)
        data = await office().preview(job, box, request)
        return Response(data, media_type="image/png", headers={"preview-box": ",".join(map(str, box))})
