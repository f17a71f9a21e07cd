"""The HTTP API: what is sent, answered and refused."""

import contextlib
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from app_servers import MINUTE, served, until
from esc_sr.app.job import AppJob
from esc_sr.app.limits import Limits, RefusalError
from esc_sr.app.office import Office
from esc_sr.app.work import Box, look, shown_name
from esc_sr.cli.main import app as command
from esc_sr.image import decode_image
from pictures import SRGB, noise, pillow

PNG = pillow(Image.fromarray(noise(20, 24, 3)), "PNG", icc_profile=SRGB)
EXIF = Image.Exif()
EXIF[0x010F] = "a maker"
LARGE = pillow(Image.fromarray(noise(500, 500, 3)), "PNG")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@contextlib.contextmanager
def start(scratch: Path, limits: Limits = Limits(), token: str | None = None) -> Iterator[httpx.Client]:
    with served(scratch, limits, token) as link, httpx.Client(base_url=link, timeout=MINUTE) as client:
        yield client


@pytest.fixture(scope="module")
def client(scratch: Path) -> Iterator[httpx.Client]:
    with start(scratch) as client:
        yield client
    assert list(scratch.iterdir()) == []


def send(client: httpx.Client, data: bytes = PNG, **wishes: Any) -> dict[str, Any]:
    answer = client.post("/v1/upscale", params=wishes, content=data)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    found: dict[str, Any] = answer.json()
    return found


def finished(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    until(lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] not in ("queued", "running"))
    found: dict[str, Any] = client.get(f"/v1/jobs/{job['id']}").json()
    return found


def files(scratch: Path) -> list[str]:
    """What jobs have left."""
    return [path.name for folder in scratch.glob("esc-sr-app-*") for path in folder.iterdir()]


@pytest.mark.parametrize(
    ("name", "data", "wishes", "options"),
    [
        ("photo.png", PNG, {"scale": 2}, ("-s", "2")),
        ("a.jpg", pillow(Image.fromarray(noise(9, 12, 3)), "JPEG"), {"width": 30}, ("--width", "30")),
        ("b.gif", pillow(Image.fromarray(noise(8, 9, 3)), "GIF"), {"format": "webp"}, ("-f", "webp")),
        ("c.tif", pillow(Image.fromarray(noise(8, 9, 4)), "TIFF"), {"scale": 1.5}, ("-s", "1.5")),
        ("d.bmp", pillow(Image.fromarray(noise(8, 9, 3)), "BMP"), {}, ()),
    ],
)
def test_bytes_are_those_of_the_command(
    client: httpx.Client, tmp_path: Path, name: str, data: bytes, wishes: Any, options: tuple[str, ...]
) -> None:
    (tmp_path / name).write_bytes(data)
    assert CliRunner().invoke(command, ["upscale", str(tmp_path / name), *options, "-q"]).exit_code == 0
    (expected,) = [path for path in tmp_path.iterdir() if path.name != name]
    job = finished(client, send(client, data, name=name, **wishes))
    assert (job["state"], job["error"], job["done"], job["waiting_for"]) == ("done", "", 1, 0)
    answer = client.get(f"/v1/jobs/{job['id']}/result")
    assert answer.content == expected.read_bytes()
    assert len(answer.content) == job["result_bytes"]
    assert job["result"] == expected.name and expected.name in answer.headers["content-disposition"]
    height, width, _ = decode_image(answer.content, "a").pixels.shape
    assert (job["result_width"], job["result_height"]) == (width, height)


def test_whoever_waits_gets_the_file_and_nothing_stays(client: httpx.Client, scratch: Path) -> None:
    before = files(scratch)
    for call in (client.post, client.put):
        answer = call("/v1/upscale?wait=1", content=PNG)
        assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
        assert decode_image(answer.content, "a").icc == SRGB
        assert 'filename="picture_2x.png"' in answer.headers["content-disposition"]
    assert files(scratch) == before


def test_notes_are_those_of_the_job(client: httpx.Client) -> None:
    data = pillow(Image.fromarray(noise(8, 9, 4)), "PNG")
    for _ in range(2):
        notes = finished(client, send(client, data, name="a.png", format="jpg", scale=2.5))["notes"]
        assert any("transparency" in note or "alpha" in note for note in notes), notes
        assert "esc-light x3, then reduced to x2.5" in notes


@pytest.mark.parametrize(
    ("kind", "blocks", "format", "kept"),
    [
        ("PNG", {"icc_profile": SRGB}, "png", ["kept: ICC"]),
        ("JPEG", {"icc_profile": SRGB, "exif": EXIF}, "jpg", ["kept: ICC, EXIF"]),
        ("JPEG", {"exif": EXIF}, "gif", []),
        ("JPEG", {"dpi": (300, 300)}, "jpg", []),
        ("TIFF", {}, "tiff", []),
    ],
)
def test_what_was_kept_is_said(
    client: httpx.Client, kind: str, blocks: dict[str, Any], format: str, kept: list[str]
) -> None:
    data = pillow(Image.fromarray(noise(8, 9, 3)), kind, **blocks)
    job = finished(client, send(client, data, format=format))
    assert job["state"] == "done", job["error"]
    assert [note for note in job["notes"] if note.startswith("kept")] == kept


@pytest.mark.parametrize(
    ("data", "wishes", "status", "said"),
    [
        (b"", {}, 400, "no picture came"),
        (b"hello", {"name": "a.png"}, 415, "cannot read a.png: not a complete PNG"),
        (b"hello", {"name": "../../etc/a.nef"}, 415, "a.nef: RAW; develop it first"),
        (PNG[:30], {}, 415, "cannot read picture: "),
        (PNG, {"scale": 0.5}, 400, "pictures are only enlarged"),
        (PNG, {"scale": "nan"}, 400, "scale nan is not between"),
        (PNG, {"scale": "two"}, 422, "scale: "),
        (PNG, {"scale": 2, "width": 99}, 400, "say one of them"),
        (PNG, {"width": 12}, 400, "pictures are enlarged"),
        (PNG, {"longest": 10**9}, 400, "at most x64"),
        (PNG, {"width": 10**400}, 400, "say a whole one from 1 to"),
        (PNG, {"format": "exe"}, 400, "no format is called 'exe'"),
        (PNG, {"model": "/etc/passwd"}, 400, "no model is called '/etc/passwd'; there are esc-light, "),
        (PNG, {"model": "esc-light-x2"}, 400, "no model is called 'esc-light-x2'"),
        (LARGE, {"scale": 40, "model": "esc-lte"}, 413, "at most 268435456 are taken here"),
    ],
)
def test_mistakes_are_one_line(
    client: httpx.Client, scratch: Path, data: bytes, wishes: Any, status: int, said: str
) -> None:
    before = files(scratch)
    answer = client.post("/v1/upscale", params=wishes, content=data)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert said in answer.json()["error"] and "\n" not in answer.json()["error"]
    assert files(scratch) == before


def test_many_results_are_one_archive(client: httpx.Client) -> None:
    jobs = [finished(client, send(client, PNG, name=name)) for name in ("a.png", "ü.png", "A.png")]
    ids = [job["id"] for job in jobs]
    answer = client.get("/v1/results", params={"id": [*ids, ids[0]]})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/zip"
    assert 'filename="pictures.zip"' in answer.headers["content-disposition"]
    with ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["a_2x.png", "ü_2x.png", "A_2x (2).png"]
        for name, id in zip(archive.namelist(), ids, strict=True):
            assert archive.read(name) == client.get(f"/v1/jobs/{id}/result").content
    bad = finished(client, send(client, PNG[:-40]))["id"]
    for asked, status in (([*ids, "x"], 404), ([], 422), ([*ids, bad], 409)):
        answer = client.get("/v1/results", params={"id": asked})
        assert answer.status_code == status and list(answer.json()) == ["error"]


def test_what_is_being_sent_stays_until_then(tmp_path: Path) -> None:
    with contextlib.closing(Office(Limits(), "cpu", tmp_path, lambda: False)) as office:
        whole, broken = (added(office) for _ in range(2))
        until(lambda: whole.over and broken.over)
        result = whole.target.read_bytes()
        parts, left = office.pack([whole, broken]), office.pack([broken])
        data = next(parts)
        next(left)
        for job in (whole, broken):
            office.jobs.remove(job)
        data += b"".join(parts)
        with ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None and archive.read("a_2x.png") == result
        assert not whole.folder.exists() and broken.target.exists()
        left.close()
        assert not broken.folder.exists()
        with pytest.raises(RefusalError, match="no such job"):
            next(office.pack([whole]))


def added(office: Office) -> AppJob:
    """A job in the queue."""
    with office.jobs.coming(len(PNG)) as (id, folder):
        (folder / "source").write_bytes(PNG)
        return office.jobs.add(id, look(folder / "source", "a.png", None, None, None, office.limits))


def test_damage_ends_the_job_and_no_other(client: httpx.Client) -> None:
    bad, good = send(client, PNG[:-40], name="bad.png"), send(client)
    job = finished(client, bad)
    assert job["state"] == "failed" and job["error"].startswith("cannot read bad.png: not a complete PNG")
    answer = client.get(f"/v1/jobs/{job['id']}/result")
    assert answer.status_code == 409 and answer.json()["error"] == job["error"]
    assert client.post("/v1/upscale?wait=1", content=PNG[:-40]).status_code == 415
    assert finished(client, good)["state"] == "done"


def test_running_jobs_are_cancelled_within_a_band(client: httpx.Client, scratch: Path) -> None:
    before = files(scratch)
    running, queued = send(client, LARGE, scale=4), send(client)
    until(lambda: client.get(f"/v1/jobs/{running['id']}").json()["done"] > 0)
    told = client.get(f"/v1/jobs/{queued['id']}").json()
    assert (told["state"], told["waiting_for"]) == ("queued", 1)
    assert client.get(f"/v1/jobs/{running['id']}/result").status_code == 409
    assert (left := client.get(f"/v1/jobs/{running['id']}").json()["seconds_left"]) > 0
    for job in (queued, running):
        assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
        assert client.get(f"/v1/jobs/{job['id']}").status_code == 404
    begun = time.monotonic()
    assert finished(client, send(client))["state"] == "done"
    assert time.monotonic() - begun < left
    until(lambda: len(files(scratch)) == len(before) + 1)


def test_events_tell_the_state(client: httpx.Client) -> None:
    job = send(client, pillow(Image.fromarray(noise(90, 90, 3)), "PNG"))
    told = client.get(f"/v1/jobs/{job['id']}/events")
    assert told.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in told.text.splitlines() if line.startswith("data: ")]
    assert events[-1]["state"] == "done" and {event["id"] for event in events} == {job["id"]}
    again = client.get(f"/v1/jobs/{job['id']}/events").text.splitlines()
    assert json.loads(again[0][6:]) == events[-1] and len(again) == 2


def test_browsers_are_given_what_they_show(client: httpx.Client) -> None:
    deep = (noise(8, 9, 1).astype(np.uint16) * 257)[:, :, 0]
    job = finished(client, send(client, pillow(Image.fromarray(deep), "TIFF"), name="a.tif"))
    for way, sides in (("before", (9, 8)), ("after", (18, 16))):
        for _ in range(2):
            answer = client.get(f"/v1/jobs/{job['id']}/{way}")
            assert answer.headers["content-type"] == "image/png"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert Image.open(io.BytesIO(answer.content)).size == sides
    job = finished(client, send(client))
    assert client.get(f"/v1/jobs/{job['id']}/before").content == PNG


def test_previews_are_close_to_the_result(client: httpx.Client) -> None:
    y, x = np.mgrid[0:60, 0:80]
    pixels = np.stack([3 * y, 2 * x, 60 * ((x // 8 + y // 8) % 2)], axis=-1).astype(np.uint8)
    job = send(client, pillow(Image.fromarray(pixels), "PNG"), scale=2.5)
    answer = client.post(
        f"/v1/jobs/{job['id']}/preview", params={"left": 40, "top": 10, "width": 100, "height": 20}
    )
    assert answer.status_code == 200 and answer.headers["preview-box"] == "40,10,40,20"
    part = decode_image(answer.content, "part").pixels.astype(int)
    finished(client, job)
    whole = decode_image(client.get(f"/v1/jobs/{job['id']}/result").content, "whole").pixels.astype(int)
    assert part.shape == (50, 100, 3)
    assert np.abs(part - whole[25:75, 100:200]).mean() < 1.5
    assert np.abs(part - whole[26:76, 100:200]).mean() > 1.5  # another place would not do
    for box in ({"left": -1, "width": 5}, {"left": 0, "width": 0}, {"left": 0, "width": 10**9}):
        params = {"top": 0, "height": 5, **box}
        assert client.post(f"/v1/jobs/{job['id']}/preview", params=params).status_code == 422


@pytest.mark.parametrize(
    ("box", "within"),
    [
        (Box(0, 0, 50, 40), Box(0, 0, 50, 40)),
        (Box(0, 0, 1000, 1000), Box(40, 15, 20, 20)),
        (Box(90, 45, 400, 400), Box(90, 45, 10, 5)),
        (Box(500, 500, 4, 4), Box(99, 49, 1, 1)),
    ],
)
def test_boxes_lie_within(box: Box, within: Box) -> None:
    assert box.within((50, 100), 200 if box.width < 1000 else 20) == within


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b.png", "a b.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\a.jpg", "a.jpg"),
        ("", "picture"),
        ("..", "picture"),
        ("a\r\nb\0.png", "a__b_.png"),
        ("ü" * 300 + ".png", "ü" * 120 + ".png"),
        ('a"<b>.png', "a__b_.png"),
    ],
)
def test_names_are_no_paths(name: str, shown: str) -> None:
    assert shown_name(name) == shown


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1:9"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://HOST"}, 403),
        ({"origin": "http://HOST"}, 202),
        ({}, 202),
    ],
)
def test_other_sites_are_kept_out(client: httpx.Client, headers: dict[str, str], status: int) -> None:
    own = client.base_url.netloc.decode()
    headers = {name: value.replace("HOST", own) for name, value in headers.items()}
    answer = client.post("/v1/upscale", content=PNG, headers=headers)
    assert answer.status_code == status, answer.text
    assert "access-control-allow-origin" not in answer.headers
    if "host" in headers:
        assert client.get("/", headers=headers).status_code == status


def test_the_page_runs_nothing_from_elsewhere(client: httpx.Client) -> None:
    for path in ("/", "/api", "/v1/models", "/no"):
        answer = client.get(path)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "http://" not in answer.text.replace("http://127.0.0.1:8000", "").replace(
            "http://www.w3.org", ""
        )
    assert client.get("/no").json() == {"error": "Not Found; /no is not there for that"}
    assert client.options("/v1/upscale").status_code == 405


def test_the_api_is_described(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    page = client.get("/api").text
    assert "/v1/jobs/{id}/preview" in paths and all(path in page for path in paths)
    assert "application/octet-stream" in json.dumps(paths["/v1/upscale"]["post"]["requestBody"])
    models = client.get("/v1/models").json()
    assert models[0]["name"] == "esc-light" and models[0]["default"] and models[0]["scales"] == [2, 3, 4]
    assert all(model["advice"] for model in models)


def test_with_a_token_nothing_without_it(tmp_path: Path) -> None:
    with start(tmp_path, token="secret-of-mine-0123") as client:
        for value in ("", "Bearer", "Bearer wrong", "Basic secret-of-mine-0123"):
            answer = client.post("/v1/upscale", content=PNG, headers={"authorization": value})
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert client.get("/v1/models", headers={"authorization": value}).status_code == 401
        assert client.get("/").status_code == client.get("/openapi.json").status_code == 200
        assert "every request below <code>/v1</code> needs a header" in client.get("/api").text
        headers = {"authorization": "Bearer secret-of-mine-0123"}
        assert client.post("/v1/upscale?wait=1", content=PNG, headers=headers).status_code == 200
        own = client.base_url.netloc.decode()
        for origin, status in (
            ("https://" + own, 202),
            ("http://" + own, 202),
            ("https://evil.example", 403),
        ):
            answer = client.post("/v1/upscale", content=PNG, headers={**headers, "origin": origin})
            assert answer.status_code == status, origin  # https: a proxy with TLS is in front


def test_limits(tmp_path: Path) -> None:
    limits = Limits(file_bytes=3000, pixels=5000, jobs=2, disk_bytes=50_000, job_seconds=1, keep_seconds=1)
    small = pillow(Image.fromarray(noise(4, 5, 3)), "PNG")
    with start(tmp_path, limits) as client:
        assert client.post("/v1/upscale", content=bytes(3001)).status_code == 413
        assert client.post("/v1/upscale", content=iter([bytes(2000)] * 2)).status_code == 413
        frames = [Image.fromarray(noise(1, 1, 3)), Image.new("RGB", (1, 1))]
        many = pillow(frames[0], "GIF", save_all=True, append_images=frames[1:])
        for data, said in (
            (many, "2 x 1 x 1 to 2 x 2 pixels, which count as 8192; at most 5000 "),
            (pillow(Image.new("L", (80, 70)), "PNG"), "80 x 70 to 160 x 140 pixels, which count as 5600; "),
        ):
            answer = client.post("/v1/upscale", content=data)
            assert answer.status_code == 413 and said in answer.json()["error"]
        assert client.post("/v1/upscale?scale=64", content=small).status_code == 507
        until(lambda: files(tmp_path) == [])
        ended = finished(client, send(client, small))
        until(lambda: files(tmp_path) == [])
        assert client.get(f"/v1/jobs/{ended['id']}").status_code == 404
    with start(tmp_path, Limits(jobs=1, job_seconds=1)) as client:
        job = send(client, LARGE)
        assert client.post("/v1/upscale", content=small).status_code == 429
        ended = finished(client, job)
        assert ended["state"] == "failed" and "takes longer than" in ended["error"]
        send(client, small)
    assert list(tmp_path.iterdir()) == []
