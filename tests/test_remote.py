"""`esc-sr upscale` where pictures lie in stores: against an S3 server, memory, and what goes wrong there."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from s3fs import S3FileSystem
from typer.testing import CliRunner

import esc_sr
from esc_sr.cli.main import app
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.image import Picture, write_image
from esc_sr.remote import Address, RemoteClaim, claim, parse
from esc_sr.weights import save
from pictures import noise
from pretend_ray import pretend
from s3_server import Fault, Server, s3_server

BUCKETS = count()
TINY = ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server() as running, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "not-a-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        yield running


@pytest.fixture
def bucket(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    monkeypatch.setattr("esc_sr.remote.faults.PAUSE", 0.001)
    server.faults.clear()
    address = parse(f"s3://bucket-{next(BUCKETS)}")
    address.store.call(lambda files: files.call_s3("create_bucket", Bucket=address.path))
    server.requests.clear()
    yield address
    server.faults.clear()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    save(ESC(TINY), path)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def png(height: int = 6, width: int = 8) -> bytes:
    place = Path("one.png")
    write_image(Picture(noise(height, width, 3)), place, overwrite=True)
    return place.read_bytes()


def put(place: Address, data: bytes) -> None:
    place.store.call(lambda files: files.pipe_file(place.path, data))


def names(folder: Address) -> list[str]:
    """All keys there are, hidden ones as well."""
    listed = folder.store.call(lambda files: files.call_s3("list_objects_v2", Bucket=folder.path))
    return sorted(found["Key"] for found in listed.get("Contents", ()))


def upscale(tiny: Path, *arguments: str | Path | Address, given: bytes | None = None) -> tuple[int, str, str]:
    options = ["-n", str(tiny), "--device", "cpu"]
    result = CliRunner().invoke(app, ["upscale", *map(str, arguments), *options], input=given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


KEYS = ("a.png", "sub/a.png", "sub/deeper/two words #1 %41 ü?x.png")


def test_a_tree_from_store_to_store_is_that_of_a_disk(
    here: Path, tiny: Path, bucket: Address, server: Server
) -> None:
    for number, key in enumerate(KEYS):
        data = png(5 + number, 8)
        put(bucket / "in" / key, data)
        Path("in", key).parent.mkdir(parents=True, exist_ok=True)
        Path("in", key).write_bytes(data)
    bucket.store.call(lambda files: files.call_s3("put_object", Bucket=bucket.path, Key="in/sub/"))
    put(bucket / "in/notes.txt", b"text")
    put(bucket / "in/.hidden/a.png", b"no picture")
    assert upscale(tiny, "in", "-o", "out")[0] == 0
    code, out, err = upscale(tiny, bucket / "in", "-o", f"{bucket}/out", "--json")
    assert code == 0 and "left out: 1 .txt" in err
    records = {record["source"]: record for record in map(json.loads, out.splitlines())}
    assert set(records) == {f"{bucket}/in/{key}" for key in KEYS}
    assert server.asked("GET", "in/a.png?") == 1 and not server.asked("HEAD", "in/a.png?")
    made = {str(path.relative_to("out")) for path in Path("out").rglob("*.png")}
    assert {name for name in names(bucket) if name.startswith("out/")} == {f"out/{name}" for name in made}
    for name in made:
        assert (bucket / "out" / name).read_bytes() == Path("out", name).read_bytes()
    server.requests.clear()
    code, out, err = upscale(tiny, bucket / "in", "-o", f"{bucket}/out", "--skip-existing")
    assert code == 0 and "3 of 3 skipped: the output exists already" in err
    assert not any(server.asked("GET", f"{name}?") for name in KEYS)  # one listing tells what is there
    code, _, err = upscale(tiny, bucket / "in", "-o", f"{bucket}/out")
    assert code == 2 and err.count("exists already; --overwrite replaces it") == 3
    put(bucket / "out/a_2x.png", b"old")
    assert upscale(tiny, bucket / "in", "-o", f"{bucket}/out", "--overwrite")[0] == 0
    assert (bucket / "out/a_2x.png").read_bytes() == Path("out/a_2x.png").read_bytes()


def test_a_cluster_fetches_what_lies_in_a_store(
    here: Path, tiny: Path, bucket: Address, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, 1, 1)
    for number, key in enumerate(KEYS):
        put(bucket / "in" / key, png(5 + number, 8))
    put(bucket / "in/sub/cut.png", png()[:60])
    Path("out").mkdir()
    assert upscale(tiny, bucket / "in", "-o", "alone")[0] == 1
    server.requests.clear()
    code, out, _ = upscale(tiny, bucket / "in", "-o", "out", "--cluster", "ray", "--json")
    assert code == 1 and len(out.splitlines()) == len(KEYS) + 1
    assert server.asked("GET", "in/a.png?") == 1
    for path in Path("alone").rglob("*.png"):
        assert Path("out", path.relative_to("alone")).read_bytes() == path.read_bytes()
    (manifest,) = Path("out").glob("manifest-*.jsonl")
    rows = {row["source"]: row["status"] for row in map(json.loads, manifest.read_text().splitlines())}
    assert rows == {f"{bucket}/in/{key}": "done" for key in KEYS} | {f"{bucket}/in/sub/cut.png": "failed"}
    code, out, _ = upscale(tiny, bucket / "in", "-o", "out", "--cluster", "ray", "--skip-existing", "--json")
    assert [json.loads(line)["status"] for line in out.splitlines()].count("skipped") == len(KEYS)
    code, _, err = upscale(tiny, bucket / "in", "-o", f"{bucket}/out/", "--cluster", "ray")
    assert code == 2 and f"{bucket}/out/: an address; --cluster writes into a folder" in err


def test_what_names_stand_for(here: Path, tiny: Path, bucket: Address) -> None:
    for key in ("a1.png", "a2.png", "b.png", "deep/a3.png", "odd[1].png"):
        put(bucket / key, png())

    assert upscale(tiny, bucket / "a*.png", "-o", "flat/")[0] == 0
    assert sorted(path.name for path in Path("flat").iterdir()) == ["a1_2x.png", "a2_2x.png"]
    assert upscale(tiny, bucket / "**/a?.png", "-o", f"{bucket}/o/")[0] == 0
    assert [name for name in names(bucket) if name.startswith("o/")] == [f"o/a{n}_2x.png" for n in (1, 2, 3)]
    assert upscale(tiny, bucket / "odd[1].png", "-o", bucket / "named.png")[0] == 0
    assert upscale(tiny, bucket / "b.png")[0] == 0
    assert {"named.png", "b_2x.png"} <= set(names(bucket))
    code, _, err = upscale(tiny, bucket / "no*.png", bucket / "b.png", "-o", f"{bucket}/p/")
    assert code == 1 and f"{bucket}/no*.png: no file has a name like this" in err


def test_an_output_folder_inside_of_the_input_folder_is_left_out(
    here: Path, tiny: Path, bucket: Address
) -> None:
    put(bucket / "a.png", png())
    for _ in range(2):
        assert upscale(tiny, f"{bucket}/", "-o", f"{bucket}/large/", "--skip-existing")[0] == 0
    assert names(bucket) == ["a.png", "large/a_2x.png"]


def test_between_a_disk_a_store_and_streams(here: Path, tiny: Path, bucket: Address) -> None:
    data = png()
    put(bucket / "a.png", data)
    Path("b.png").write_bytes(data)
    assert upscale(tiny, "b.png", "-o", f"{bucket}/up/")[0] == 0
    assert upscale(tiny, bucket / "a.png", "-o", "down.png")[0] == 0
    assert upscale(tiny, "-", "-o", bucket / "c.png", given=data)[0] == 0
    expected = Path("down.png").read_bytes()
    assert (bucket / "up/b_2x.png").read_bytes() == (bucket / "c.png").read_bytes() == expected
    network = esc_sr.Upscaler(tiny, device="cpu")
    np.testing.assert_array_equal(network.upscale(f"{bucket}/a.png"), network.upscale("b.png"))
    put(parse("memory://room/a.png"), data)
    assert upscale(tiny, "memory://room", "-o", "memory://larger/x/")[0] == 0
    assert [str(there) for there in parse("memory://larger").files()] == ["memory://larger/x/a_2x.png"]
    assert parse("memory://larger/x/a_2x.png").read_bytes() == expected


@pytest.mark.parametrize("how", [500, 503, "reset", "short"])
def test_what_passes_is_tried_again(
    here: Path, tiny: Path, bucket: Address, server: Server, how: int | str
) -> None:
    put(bucket / "in/a.png", png())
    server.faults += [
        Fault("GET", "list-type", how, 2),
        Fault("GET", "in/a.png?", how, 2),
        Fault("PUT", "out/a_2x.png", how if how != "short" else 500, 2),
    ]
    code, _, err = upscale(tiny, bucket / "in", "-o", f"{bucket}/out/")
    assert code == 0, err
    assert names(bucket) == ["in/a.png", "out/a_2x.png"]
    assert server.asked("GET", "in/a.png?") == 3 and server.asked("PUT", "out/a_2x.png") == 3


@pytest.mark.parametrize(
    ("fault", "tries", "said"),
    [
        (Fault("GET", "a.png?", 500), 5, "a.png: cannot be read (the server answers 500 (injected 500))"),
        (Fault("GET", "a.png?", "short"), 5, "a.png: cannot be read (the answer was cut off"),
        (Fault("GET", "a.png?", "reset"), 5, "a.png: cannot be read ("),
        (Fault("GET", "a.png?", 403), 1, "a.png: cannot be read (no permission (injected 403))"),
        (Fault("PUT", "o/a_2x.png", 403), 1, "o/a_2x.png: no permission (injected 403)"),
        (Fault("PUT", "o/a_2x.png", 503), 5, "o/a_2x.png: the server answers 503"),
        (Fault("PUT", "o/.esc-sr-", 403), 1, "/o: cannot be written (no permission (injected 403))"),
    ],
)
def test_what_does_not_pass_is_one_line_and_leaves_nothing(
    here: Path, tiny: Path, bucket: Address, server: Server, fault: Fault, tries: int, said: str
) -> None:
    put(bucket / "a.png", png())
    server.requests.clear()
    server.faults.append(fault)
    code, _, err = upscale(tiny, bucket / "a.png", "-o", f"{bucket}/o/")
    assert code == 2 and err.count("error: ") == 1 and said in err.splitlines()[-1]
    assert server.asked(fault.method, fault.part) in (
        tries,
        2 * tries,
    )  # the client asks twice, if it is cut off
    assert names(bucket) == ["a.png"]


def test_a_run_that_is_killed_leaves_no_object(
    here: Path, tiny: Path, bucket: Address, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket / "in/a.png", png())
    server.faults.append(Fault("PUT", "out/a_2x.png", "hang"))
    write = "from esc_sr.remote import RemoteClaim, parse; RemoteClaim(parse({!r})).publish(b'part', False)"
    run = subprocess.Popen([sys.executable, "-c", write.format(f"{bucket}/out/a_2x.png")])
    try:
        while not server.asked("PUT", "out/a_2x.png"):
            assert run.poll() is None
            time.sleep(0.01)
    finally:
        run.kill()
        run.wait()
    server.released.set()
    server.faults.clear()
    (left,) = set(names(bucket)) - {"in/a.png"}
    assert left.startswith("out/.esc-sr-") and left.endswith(".claim")
    again = (bucket / "in", "-o", f"{bucket}/out/", "--skip-existing")
    code, _, err = upscale(tiny, *again)
    assert code == 0 and "1 of 1 skipped: another run is making the output" in err
    monkeypatch.setattr(claim, "LEASE", 0.0)
    assert upscale(tiny, *again)[0] == 0
    assert names(bucket) == ["in/a.png", "out/a_2x.png"]


def test_a_store_that_is_not_there_or_closed(here: Path, tiny: Path, bucket: Address, server: Server) -> None:
    put(bucket / "a.png", png())
    for arguments in (
        ("s3://no-such-bucket/in", "-o", "x/"),
        (bucket / "a.png", "-o", "s3://no-such-bucket/o/"),
    ):
        code, _, err = upscale(tiny, *arguments)
        assert code == 2 and err.count("\n") == 1
        assert "s3://no-such-bucket/" in err and "(no such bucket)" in err
    server.faults.append(Fault("GET", "list-type", 403))
    code, _, err = upscale(tiny, f"{bucket}/x/", "-o", "x/")
    assert code == 2 and "/x: cannot be reached (no permission (injected 403))" in err


def test_a_store_without_exclusive_creation(here: Path, tiny: Path, bucket: Address, server: Server) -> None:
    put(bucket / "a.png", png())
    server.faults.append(Fault("CREATE", "", 501))
    assert upscale(tiny, bucket / "a.png", "-o", f"{bucket}/o/")[0] == 0
    assert names(bucket) == ["a.png", "o/a_2x.png"]
    with closing(RemoteClaim(bucket / "b.png")), pytest.raises(BlockingIOError):
        RemoteClaim(bucket / "b.png")


def test_more_files_than_one_answer_tells(here: Path, bucket: Address, server: Server) -> None:
    for number in range(4):
        put(bucket / f"{number}.png", b"")
    bucket.store.call(lambda files: files.s3_additional_kwargs.update(MaxKeys=2))
    try:
        assert [str(there) for there in bucket.files()] == [f"{bucket}/{number}.png" for number in range(4)]
        assert server.asked("GET", "list-type") == 2
    finally:
        bucket.store.call(lambda files: files.s3_additional_kwargs.clear())


@pytest.mark.parametrize("times", [1, -1])
def test_an_output_in_parts_is_whole_or_given_up(
    here: Path, bucket: Address, server: Server, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    part = 5 * 2**20  # the smallest that S3 takes
    monkeypatch.setattr(S3FileSystem._pipe_file, "__defaults__", (part, None, "overwrite"))
    monkeypatch.setattr("esc_sr.remote.faults.TRIES", 2)
    server.faults.append(Fault("PUT", "partNumber=2", 500, times))
    data = bytes(2 * part + 1)
    with closing(RemoteClaim(bucket / "a.tif")) as mine:
        if times > 0:
            mine.publish(data, overwrite=False)
            assert (bucket / "a.tif").read_bytes() == data
        else:
            with pytest.raises(OSError, match="the server answers 500"):
                mine.publish(data, overwrite=False)
    assert names(bucket) == ["a.tif"] * (times > 0)
    left = bucket.store.call(lambda files: files.call_s3("list_multipart_uploads", Bucket=bucket.path))
    assert server.asked("PUT", "partNumber=2") == 2 and "Uploads" not in left
