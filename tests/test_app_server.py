"""The server under load, with clients that are slow or leave, killed and begun again; its command."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image
from typer.testing import CliRunner

from app_servers import MINUTE, begin, served, until
from esc_sr.app.limits import Limits
from esc_sr.app.scratch import Scratch
from esc_sr.cli.main import app as command
from pictures import noise, pillow

PNG = pillow(Image.fromarray(noise(12, 16, 3)), "PNG")
LARGE = pillow(Image.fromarray(noise(400, 400, 3)), "PNG")


def folders(scratch: Path) -> list[str]:
    """The jobs that have files."""
    return [path.name for folder in scratch.glob("esc-sr-app-*") for path in folder.iterdir()]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts open files in /proc")
def test_two_hundred_at_once(tmp_path: Path) -> None:
    async def send(client: httpx.AsyncClient, number: int) -> int:
        path = "/v1/models" if number % 10 else "/v1/upscale?wait=1"
        answer = await client.request("GET" if number % 10 else "POST", path, content=PNG)
        if answer.status_code == 429:
            assert "wait already" in answer.json()["error"]
        elif number % 10 == 0:
            assert answer.content == expected
        return answer.status_code

    async def all_at_once() -> list[int]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=link, timeout=MINUTE, limits=limits) as client:
            return await asyncio.gather(*(send(client, number) for number in range(200)))

    with served(tmp_path, Limits(jobs=12)) as link:
        expected = httpx.post(f"{link}/v1/upscale?wait=1", content=PNG, timeout=MINUTE).content
        before = open_files()
        codes = asyncio.run(all_at_once())
        assert set(codes) <= {200, 429} and codes.count(200) >= 180 + 10
        until(lambda: folders(tmp_path) == [] and open_files() <= before)
    assert list(tmp_path.iterdir()) == []


def test_slow_clients_and_those_that_leave(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        link = stack.enter_context(served(tmp_path, Limits(idle_seconds=1, upload_seconds=2)))
        address = ("127.0.0.1", httpx.URL(link).port or 0)
        head = f"POST /v1/upscale HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nContent-Length: 5000\r\n\r\n"
        slow, gone, waiting = (stack.enter_context(socket.create_connection(address)) for _ in range(3))
        for connection in (slow, gone):
            connection.sendall(head.encode() + b"some bytes")
        until(lambda: len(folders(tmp_path)) == 2)
        gone.close()
        until(lambda: len(folders(tmp_path)) == 1)
        assert httpx.get(f"{link}/v1/models").status_code == 200
        answer = b""
        while piece := slow.recv(2**16):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 408") and b"too slowly" in answer
        until(lambda: folders(tmp_path) == [])
        head = head.replace("upscale", "upscale?wait=1&scale=4").replace("5000", str(len(LARGE)))
        waiting.sendall(head.encode() + LARGE)
        until(lambda: folders(tmp_path) != [])
        waiting.close()
        until(lambda: folders(tmp_path) == [])


@pytest.mark.skipif(os.name == "nt", reason="nothing is killed in this way there")
def test_killed_and_begun_again(tmp_path: Path) -> None:
    process, link = begin(tmp_path)
    job = httpx.post(f"{link}v1/upscale", content=LARGE, params={"scale": 4}).json()["id"]
    until(lambda: httpx.get(f"{link}v1/jobs/{job}").json()["done"] > 0)
    process.kill()
    process.communicate()
    assert folders(tmp_path) == [job]
    process, link = begin(tmp_path, "--host", "0.0.0.0")
    try:
        page, token = link.split("#token=")
        page = page.replace("0.0.0.0", "127.0.0.1")
        headers = {"authorization": f"Bearer {token}"}
        assert folders(tmp_path) == []
        assert httpx.get(f"{page}v1/jobs/{job}").status_code == 401
        assert httpx.get(f"{page}v1/jobs/{job}", headers=headers).status_code == 404
        answer = httpx.post(f"{page}v1/upscale", params={"scale": 4}, content=LARGE, headers=headers)
        id = answer.json()["id"]
        with httpx.stream("GET", f"{page}v1/jobs/{id}/events", headers=headers) as events:
            lines = events.iter_lines()
            assert next(lines).startswith("data: ")
            process.send_signal(signal.SIGINT)
            assert all('"state": "done"' not in line for line in lines)
        assert process.wait(MINUTE) == 0
    finally:
        process.kill()
        process.communicate()
    assert list(tmp_path.iterdir()) == []


def test_folders_of_the_living_stay(tmp_path: Path) -> None:
    first = Scratch(tmp_path)
    (first.folder / "a").touch()
    (tmp_path / "esc-sr-app-link").symlink_to(first.folder)
    (tmp_path / "esc-sr-app-dead").mkdir()
    second = Scratch(tmp_path)
    assert (first.folder / "a").exists() and not (tmp_path / "esc-sr-app-dead").exists()
    assert first.folder.stat().st_mode & 0o077 == 0
    second.close()
    first.close()
    assert os.listdir(tmp_path) == ["esc-sr-app-link"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "no.such.host.invalid"), "cannot listen on no.such.host.invalid, port 8000: "),
        (("--host", "."), "cannot listen on ., port 8000: no such name; choose another"),
        (("--host", 70 * "a"), "a, port 8000: no such name"),
        (("--device", "cudaa"), "no device is called 'cudaa'"),
        (("--device", "cpu:7"), "device cpu:7 is not here"),
        (("--token-file", "none"), "none: cannot be read (No such file or directory)"),
        (("--token-file", "short"), "short: its first line is no token"),
    ],
)
def test_mistakes_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short").write_text("1234\n")
    result = CliRunner().invoke(command, ["app", "--no-browser", *options])
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1


def test_ports_that_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(command, ["app", "--no-browser", "--port", str(port)])
    assert result.exit_code == 2 and f"cannot listen on 127.0.0.1, port {port}: " in result.stderr


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(command, ["app", "--no-browser"])
    assert result.exit_code == 2
    assert result.stderr == 'esc-sr: error: uvicorn is missing: pip install "esc-sr[app]"\n'
