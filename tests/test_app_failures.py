"""What fails on the server: each answer is one line of JSON, whatever it was."""

import errno
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from app_servers import until
from esc_sr.app import work
from esc_sr.app.limits import Limits
from esc_sr.errors import DeviceError, ImageError
from esc_sr.image import Animation, Encoding, Picture, encode_image
from pictures import noise, pillow
from test_app_api import LARGE, files, finished, send, start

TIFF = pillow(Image.fromarray(noise(8, 9, 3)), "TIFF")
BOX = {"left": 0, "top": 0, "width": 9, "height": 9}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def client(scratch: Path) -> Iterator[httpx.Client]:
    with start(scratch) as client:
        yield client
    assert list(scratch.iterdir()) == []


def told(answer: httpx.Response, status: int) -> str:
    """The line of a failure."""
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"] and "\n" not in answer.json()["error"]
    return str(answer.json()["error"])


def raising(error: Exception) -> Any:
    def fail(*some: object, **more: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("way", ["result", "before", "after", "events", "preview", ""])
def test_jobs_that_nobody_knows(client: httpx.Client, way: str) -> None:
    params = {"left": 0, "top": 0, "width": 9, "height": 9}
    call = client.post if way == "preview" else client.get
    for id in ("x", "..%2f..%2fetc", "source"):
        answer = call(f"/v1/jobs/{id}/{way}".rstrip("/"), params=params)
        assert answer.status_code == 404 and "error" in answer.json()


def test_pictures_that_are_removed_while_others_wait_for_them(
    client: httpx.Client, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (finished(client, send(client, TIFF, name="a.tif"))["id"] for _ in range(2))
    begun, may_end, preview = threading.Event(), threading.Event(), work.preview

    def slow(*some: Any) -> bytes:
        begun.set()
        may_end.wait(60)
        return preview(*some)

    monkeypatch.setattr(work, "preview", slow)
    with ThreadPoolExecutor(4) as pool:
        ask = lambda id: pool.submit(client.post, f"/v1/jobs/{id}/preview", params=BOX)  # noqa: E731
        held = ask(first)
        begun.wait(60)
        waiting = [pool.submit(client.get, f"/v1/jobs/{second}/{way}") for way in ("before", "after")]
        waiting.append(ask(second))
        with pytest.raises(TimeoutError):
            waiting[-1].result(1)
        for id in (first, second):
            assert client.delete(f"/v1/jobs/{id}").status_code == 204
        assert first in files(scratch)
        may_end.set()
        assert all("no such job" in told(answer.result(), 404) for answer in waiting)
        assert held.result().headers["content-type"] == "image/png"
    until(lambda: not {first, second} & {*files(scratch)})


def test_files_that_are_gone(client: httpx.Client, scratch: Path) -> None:
    id = finished(client, send(client, TIFF, name="a.tif"))["id"]
    for file in scratch.glob(f"*/{id}/*"):
        file.unlink()
    for way in ("result", "before", "after"):
        assert told(client.get(f"/v1/jobs/{id}/{way}"), 404) == "removed meanwhile"
    assert told(client.post(f"/v1/jobs/{id}/preview", params=BOX), 404) == "removed meanwhile"


def test_parts_of_files(client: httpx.Client) -> None:
    id = finished(client, send(client, TIFF, name="a.tif"))["id"]
    whole = client.get(f"/v1/jobs/{id}/result").content

    def part(range: str) -> httpx.Response:
        return client.get(f"/v1/jobs/{id}/result", headers={"range": range})

    assert (part("bytes=2-5").status_code, part("bytes=2-5").content) == (206, whole[2:6])
    for unread in ("bytes=5-2", "bytes=x", "lines=1-2"):
        assert told(part(unread), 400) == "the header Range cannot be read"
    assert told(part(f"bytes={len(whole)}-"), 416) == "no such part of the file"


def test_a_full_disk(client: httpx.Client, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    id = finished(client, send(client, TIFF, name="a.tif"))["id"]
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", raising(OSError(errno.ENOSPC, "No space left on device")))
        assert told(client.get(f"/v1/jobs/{id}/before"), 507) == "the disk refuses (No space left on device)"
    assert [
        path.name for path in scratch.glob(f"*/{id}/*") if "view" in path.name or path.name[0] == "."
    ] == []
    assert client.get(f"/v1/jobs/{id}/before").status_code == 200


def written(pixels: Any, kind: str) -> bytes:
    return encode_image(Animation([Picture(pixels)], [], 0), kind, Encoding())


@pytest.mark.parametrize(
    ("data", "pixel"),
    [
        (written(noise(8, 9, 4).astype(np.uint16), "tiff"), 8),
        (written(noise(8, 9, 3).astype(np.float32) / 255, "tiff"), 12),
        (written(noise(8, 9, 2), "png"), 3),
        (pillow(Image.fromarray(noise(8, 9, 3)), "JPEG"), 3),
        (pillow(Image.fromarray(noise(8, 9, 3)), "BMP"), 4),
        (b"P5 9 8 65535 " + bytes(144), 8),
    ],
)
def test_room_is_kept_for_depth_and_alpha(tmp_path: Path, data: bytes, pixel: int) -> None:
    (tmp_path / "source").write_bytes(data)
    asked = work.look(tmp_path / "source", "", None, None, None, Limits())
    assert asked.reserved == len(data) + pixel * 16 * 18


def test_what_browsers_are_shown_takes_room(tmp_path: Path) -> None:
    data = pillow(Image.fromarray(noise(60, 60, 3)), "TIFF")
    with start(tmp_path, Limits(disk_bytes=120_000)) as client:
        first, second = (finished(client, send(client, data, name="a.tif"))["id"] for _ in range(2))
        client.delete(f"/v1/jobs/{second}")
        for way in ("before", "after"):
            assert client.get(f"/v1/jobs/{first}/{way}").status_code == 200
        assert "no room on the disk" in told(client.post("/v1/upscale", content=data), 507)
        client.delete(f"/v1/jobs/{first}")
        send(client, data)


@pytest.mark.parametrize(
    ("step", "error", "status"),
    [
        ("Upscaler", DeviceError("too small"), 503),
        ("enlarge", ImageError("too long a side"), 400),
        ("claim_target", ImageError("cannot write: No space left on device"), 507),
        ("write_result", ImageError("cannot write: No space left on device"), 507),
        ("enlarge", ArithmeticError(), 500),
    ],
)
def test_whoever_waits_is_told_why(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception, status: int
) -> None:
    monkeypatch.setattr(work, step, raising(error))
    assert str(error) in told(client.post("/v1/upscale?wait=1", content=TIFF), status)
    known = client.get("/openapi.json").json()["paths"]["/v1/upscale"]["post"]["responses"]
    assert known[str(status)]["content"]["application/json"]["schema"]["$ref"].endswith("Failure")


def test_whoever_waits_too_long_is_told(tmp_path: Path) -> None:
    with start(tmp_path, Limits(job_seconds=1)) as client:
        assert "takes longer than" in told(client.post("/v1/upscale?wait=1&scale=4", content=LARGE), 503)


def test_failures_are_described(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for way, statuses in {
        "v1/upscale": "410 415 500 503",
        "v1/results": "404 409",
        "v1/jobs/{id}/result": "404 409 500",
        "v1/jobs/{id}/after": "404 409 415 507",
        "v1/jobs/{id}/preview": "404 410 415 503",
    }.items():
        (operation,) = paths[f"/{way}"].values()
        assert {*statuses.split()} <= {*operation["responses"]}, way
    assert "409" not in paths["/v1/jobs/{id}/before"]["get"]["responses"]
    for operations in paths.values():
        for method, operation in operations.items():
            assert {"401", "421"} <= {*operation["responses"]}
            assert ("403" in operation["responses"]) == (method in ("post", "delete"))


def test_what_nobody_thought_of_is_logged(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []
    monkeypatch.setattr(
        logging.getLogger("uvicorn.error"), "error", lambda *some, **more: logged.append(more)
    )
    monkeypatch.setattr(work, "view", raising(ArithmeticError("a\nb")))
    id = finished(client, send(client, TIFF, name="a.tif"))["id"]
    answer = client.get(f"/v1/jobs/{id}/before")
    assert told(answer, 500) == "ArithmeticError: a\\nb"
    assert answer.headers["x-content-type-options"] == "nosniff"
    until(lambda: [type(more["exc_info"]) for more in logged] == [ArithmeticError])
