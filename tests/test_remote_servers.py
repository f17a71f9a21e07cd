"""Pictures by HTTP and SFTP, and addresses that cannot work."""

import functools
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import esc_sr
from esc_sr.cli.main import app
from esc_sr.errors import ImageError
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.image import Picture, write_image
from esc_sr.remote import faults, parse, stores
from esc_sr.weights import save
from pictures import noise
from sftp_server import PASSWORD, USER, sftp_server


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small network, in the current folder, and one picture in `in/`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(faults, "PAUSE", 0.001)
    torch.manual_seed(0)
    save(
        ESC(ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)), Path("tiny.safetensors")
    )
    Path("in/sub").mkdir(parents=True)
    write_image(Picture(noise(5, 7, 3)), "in/a b.png")
    write_image(Picture(noise(1, 1, 3)), "in/sub/#ü.png")
    return tmp_path


def upscale(*arguments: str) -> tuple[int, str, str]:
    options = ["-n", "tiny.safetensors", "--device", "cpu"]
    result = CliRunner().invoke(app, ["upscale", *arguments, *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def web(folder: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_pictures_by_http(tiny: Path) -> None:
    assert upscale("in", "-o", "local")[0] == 0
    with web(tiny) as host:
        code, out, err = upscale(f"http://me:hush@{host}/in/a%20b.png?token=hush", "-o", "one/", "--json")
        assert code == 0 and json.loads(out)["source"] == f"http://***@{host}/in/a%20b.png?***"
        assert "hush" not in out + err
        assert upscale(f"http://{host}/in/", "-o", "all")[0] == 0
        assert upscale(f"http://{host}/in/**/*.png", "-o", "like/")[0] == 0
        code, out, err = upscale(f"http://{host}/in/none.png?token=hush", "-o", "none/")
        assert code == 2 and f"http://{host}/in/none.png?***: cannot be read (no such file or folder)" in err
        assert "hush" not in out + err
        for arguments in ((f"http://{host}/in/a%20b.png",), ("in/a b.png", "-o", f"http://{host}/x/")):
            assert "can only be read; name another output, with -o" in upscale(*arguments)[2]
    for name in ("a b_2x.png", "sub/#ü_2x.png"):
        assert Path("all", name).read_bytes() == Path("local", name).read_bytes()
    assert Path("one/a b_2x.png").read_bytes() == Path("local/a b_2x.png").read_bytes()
    assert {path.name for path in Path("like").iterdir()} == {"a b_2x.png", "#ü_2x.png"}


def test_pictures_by_sftp(tiny: Path) -> None:
    assert upscale("in", "-o", "local")[0] == 0
    with sftp_server(tiny) as port:
        head = f"sftp://{USER}:{PASSWORD}@127.0.0.1:{port}"
        code, out, err = upscale(f"{head}/in", "-o", f"{head}/out/new", "--json")
        assert code == 0, err
        assert PASSWORD not in out + err
        assert f'"sftp://{USER}:***@127.0.0.1:{port}/in/a b.png"' in out
        made = {str(path.relative_to("out/new")) for path in Path("out").rglob("*.*")}
        assert made == {"a b_2x.png", "sub/#ü_2x.png"}  # and no claim, and no part
        for name in made:
            assert Path("out/new", name).read_bytes() == Path("local", name).read_bytes()
        assert "2 of 2 skipped" in upscale(f"{head}/in", "-o", f"{head}/out/new", "--skip-existing")[2]
        assert upscale(f"{head}/in", "-o", f"{head}/out/new")[0] == 2
        assert upscale(f"{head}/in/a b.png", "-o", f"{head}/out/new/", "--overwrite")[0] == 0
        place = parse(f"{head}/in/a b.png")
        with ThreadPoolExecutor(4) as threads:  # each has its own answer, and waits for no lost one
            ask = threads.map(lambda _: place.store.call(lambda files: files.size(place.path), 1), range(80))
            assert set(ask) == {Path("in/a b.png").stat().st_size}
        code, _, err = upscale(f"sftp://{USER}:hush@127.0.0.1:{port}/in", "-o", "x/")
        assert code == 2 and "the server takes neither key nor password" in err and "hush" not in err
    stores.disconnect()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nowhere://x/a.png", "nowhere://x/a.png: no kind of address begins with nowhere://"),
        ("gs://x/a.png", "gs://x/a.png: addresses of this kind need one more package: pip install gcsfs"),
        ("memory://x/a**.png", "memory://x/a**.png: Invalid pattern"),
        ("s3://", "s3://: not an address of a file or folder"),
        ("s3://key:hush@bucket/a.png", "s3://key:***@bucket/a.png: not an address"),
        ("memory://none/a.png", "memory://none/a.png: no such file or folder"),
        ("memory://none/*.png", "memory://none/*.png: cannot be listed (no such file or folder)"),
        ("https://host:99999/a.png?hush", "https://host:99999/a.png?***: not a whole address"),
    ],
)
def test_addresses_that_cannot_work(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    code, out, err = upscale(address, "-o", "x/", "--json")
    assert code == 2 and err.count("\n") == 1 and said in err and "hush" not in out + err
    with pytest.raises((ImageError, esc_sr.errors.UsageError)) as caught:
        esc_sr.upscale(address, "tiny.safetensors")
    assert "hush" not in str(caught.value)


def test_a_server_that_does_not_answer(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "LIMIT", 0.05)
    stores.disconnect()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "hush")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}")
        for address in (f"http://{host}/a.png", "s3://bucket/a.png"):
            code, out, err = upscale(address, "-o", "x/")
            assert code == 2 and f"{address}: cannot be rea" in err and "(no answer in time" in err
            assert "hush" not in out + err
    code, _, err = upscale(f"http://{host}/a.png", "-o", "x/")
    assert code == 2 and err.count("\n") == 1 and "cannot be read (" in err
    stores.disconnect()


def test_without_the_extra(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)  # an import of it fails
    code, _, err = upscale("s3://bucket/a.png", "-o", "x/")
    assert code == 2 and "s3://bucket/a.png: an address, which needs the extra remote: pip install" in err


@pytest.mark.parametrize("arguments", [("in", "-o", "memory://x/y/"), ("memory://x", "-o", "out")])
def test_addresses_are_not_watched(tiny: Path, arguments: tuple[str, ...]) -> None:
    code, _, err = upscale(*arguments, "--watch")
    assert (
        code == 2 and err.count("\n") == 1 and "an address, and --watch is for folders on this machine" in err
    )
