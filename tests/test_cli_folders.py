"""`esc-sr upscale` on folders: JSON, resuming, two runs at once, Ctrl-C in the middle."""

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from esc_sr.cli.main import app
from esc_sr.cli.report import Bar, Reporter, time_left
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.image import Picture, read_image, write_image
from esc_sr.machine.claim import Claim
from esc_sr.upscaling.files import Outcome
from esc_sr.weights import save
from pictures import noise

ROOT = Path(__file__).parents[1]
Process = subprocess.Popen[str]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    save(ESC(ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)), path)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(path: str, height: int = 20, width: int = 24) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_image(Picture(noise(height, width, 3)), path)


def upscale(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["upscale", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def records(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def start(*arguments: str | Path) -> Process:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [sys.executable, "-m", "esc_sr", "upscale", *arguments, "--threads", "1"],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_json_is_one_line_for_each_file(here: Path, tiny: Path) -> None:
    odd = os.fsdecode("in/two words/ü ".encode() + b"caf\xe9.png")  # not UTF-8
    picture(odd)
    picture("in/done.png")
    picture("out/done_2x_tiny.png")
    Path("in/bad.png").write_bytes(b"no picture")
    options = ("-n", tiny, "--device", "cpu", "--name", "{stem}_{scale}x_{model}", "--skip-existing")
    code, out, err = upscale("in", "missing.png", "-o", "out", "--json", *options)
    assert code == 1
    lines = {os.path.basename(record["source"]): record for record in records(out)}
    assert [lines[name]["status"] for name in ("missing.png", "done.png", "bad.png")] == [
        "failed",
        "skipped",
        "failed",
    ]
    record = lines[os.path.basename(odd)]
    assert record.pop("seconds") > 0
    assert record == {
        "source": odd,
        "target": os.fsdecode("out/two words/ü ".encode() + b"caf\xe9_2x_tiny.png"),
        "status": "done",
        "reason": None,
        "size": [24, 20],
        "target_size": [48, 40],
        "model": "tiny.safetensors",
        "scale": 2,
        "device": "cpu",
        "precision": "fp32",
        "denoise": None,
    }
    assert read_image(record["target"]).pixels.shape == (40, 48, 3)
    assert lines["missing.png"]["target"] is None and "no such file" in lines["missing.png"]["reason"]
    assert "-> out" in err and "caf\\udce9" in err
    last = "esc-sr: 2 of 4 failed: missing.png, in/bad.png; 1 of 4 skipped: the output exists already"
    assert err.splitlines()[-1] == last
    assert upscale("in/done.png", "-o", "o/", "--json", "--quiet", *options)[2] == ""


def test_a_wished_side_in_names_and_json(here: Path, tiny: Path) -> None:
    picture("in/a.png")  # 24 x 20
    picture("in/b/c.png", 30, 40)
    picture("in/wide.png", 2, 99)
    options = ("-n", tiny, "-o", "out", "--longest", "48", "--name", "{stem}_{size}_{height}", "--json")
    code, out, err = upscale("in", *options)
    assert code == 1 and "error: in/wide.png: 99 x 2 to 48 px at the longest side" in err
    said = {record["source"]: record for record in records(out)}
    sizes = [(said[name]["target"], said[name]["target_size"]) for name in ("in/a.png", "in/b/c.png")]
    assert sizes == [("out/a_48px_40.png", [48, 40]), ("out/b/c_48px_36.png", [48, 36])]
    assert {record["scale"] for record in said.values()} == {None}
    assert "tiny.safetensors x2, then reduced to 48 x 36" in err
    assert ", tiny.safetensors 48 px at the longest side, " in err
    code, out, _ = upscale("in", *options, "--skip-existing")
    assert [record["status"] for record in records(out)] == ["failed", "skipped", "skipped"]
    assert upscale("in/a.png", "-s", "1.5", "-n", tiny, "--name", "{stem}_{scale}", "--json")[1].count(
        '"target": "in/a_1.5.png", "status": "done"'
    )


def test_a_broken_run_goes_on(here: Path, tiny: Path) -> None:
    for name in ("a.png", "b.png", "deep/c.png"):
        picture(name)
    picture("a_2x.png", 3, 3)
    before = Path("a_2x.png").read_bytes()
    code, out, err = upscale(".", "-n", tiny, "--skip-existing")
    assert code == 0 and out.count("\n") == 2
    assert "left out as outputs of an earlier run: 1, such as a_2x.png" in err
    assert err.splitlines()[-1] == "esc-sr: 1 of 3 skipped: the output exists already"
    assert Path("a_2x.png").read_bytes() == before and Path("deep/c_2x.png").exists()
    code, out, err = upscale(".", "-n", tiny, "--skip-existing", "--quiet")
    assert (code, out, err) == (0, "", "")
    assert upscale(".", "-n", tiny, "--overwrite")[0] == 0
    assert read_image("a_2x.png").pixels.shape == (40, 48, 3)


def test_names_of_several_lines(here: Path, tiny: Path) -> None:
    picture("two\nlines\x1b[31m.png")
    Path("no\npicture.png").write_bytes(b"text")
    code, out, err = upscale(".", "no\nsuch.png", "-n", tiny)
    assert code == 1 and Path("two\nlines\x1b[31m_2x.png").exists()
    assert (
        out.startswith(r"two\nlines\x1b[31m.png 24x20 -> two\nlines\x1b[31m_2x.png") and out.count("\n") == 1
    )
    said = [line.split(": ", 2)[1:] for line in err.splitlines()]
    assert [words[0] for words in said if words[0] == "error"] == ["error"] * 2
    assert r"no\npicture.png" in err and r"no\nsuch.png: no such file" in err
    assert err.splitlines()[-1] == r"esc-sr: 2 of 3 failed: no\nsuch.png, no\npicture.png"
    assert all(line.startswith("esc-sr: ") for line in err.splitlines())


@pytest.mark.parametrize("again", [(), ("--skip-existing",)])
def test_what_a_killed_run_left_beside_its_output_goes(
    here: Path, tiny: Path, again: tuple[str, ...]
) -> None:
    picture("a.png")
    with closing(Claim("a_2x.png")):
        (part,) = here.glob(".*.part")
    assert upscale("a.png", "-n", tiny)[0] == 0
    os.link("a_2x.png", part)  # it was killed between the two names
    upscale("a.png", "-n", tiny, *again)
    assert sorted(os.listdir()) == ["a.png", "a_2x.png"]


def test_what_may_not_be_read_stops_no_other(here: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture("a.png")
    picture("b.png")
    read, access = open, os.access

    def refuse(path: Any, *options: Any, **more: Any) -> Any:
        if path == Path("a.png"):
            raise PermissionError(13, "Permission denied")
        return read(path, *options, **more)

    monkeypatch.setattr("builtins.open", refuse)  # root may read anything
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.R_OK and access(path, mode))
    code, out, err = upscale("a.png", "b.png", "-n", tiny)
    assert code == 1 and "b_2x.png 48x40" in out
    assert "esc-sr: error: cannot read a.png: Permission denied" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--overwrite", "--skip-existing"), "exclude each other"),
        (("--name", "{what}"), "{stem}, {suffix}, {size}"),
    ],
)
def test_impossible_options_are_one_line(here: Path, options: tuple[str, ...], said: str) -> None:
    picture("a.png")
    code, _, err = upscale("a.png", *options)
    assert code == 2 and said in err and err.count("\n") == 1


def test_two_runs_on_one_folder_at_once(here: Path, tiny: Path) -> None:
    names = [f"in/{place}.png" for place in range(40)]
    for name in names:
        picture(name)
    both = [start("in", "-n", tiny, "-o", "out", "--skip-existing", "--json", "--quiet") for _ in "ab"]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    status = {(record["source"], record["status"]) for out, _ in said for record in records(out)}
    done = [record["source"] for out, _ in said for record in records(out) if record["status"] == "done"]
    assert sorted(done) == sorted(names)  # each by one of them
    assert {source for source, _ in status} == set(names)
    others = [record for out, _ in said for record in records(out) if record["status"] == "skipped"]
    assert others and {record["target_size"] for record in others} == {None}  # nothing is computed twice
    assert upscale("in/0.png", "-n", tiny, "-o", "one.png", "--threads", "1")[0] == 0
    expected = read_image("one.png").pixels
    assert len(os.listdir("out")) == 40  # and no part of a file
    for path in Path("out").iterdir():
        np.testing.assert_array_equal(read_image(path).pixels, expected)


@pytest.mark.skipif(os.name == "nt", reason="there, no process is killed so")
def test_a_killed_run_goes_on(here: Path, tiny: Path) -> None:
    for place in range(150):
        picture(f"in/{place}.png")
    process = start("in", "-n", tiny, "-o", "out", "--json", "--quiet")
    assert process.stdout is not None
    process.stdout.readline()  # the first is done, and others are begun
    process.kill()
    process.communicate(timeout=60)
    assert 1 <= len(list(Path("out").iterdir())) < 150
    assert all(path.stat().st_size for path in Path("out").glob("[!.]*"))  # none is empty
    assert upscale("in", "-n", tiny, "-o", "out", "--skip-existing", "--quiet")[0] == 0
    assert sorted(os.listdir("out")) == sorted(f"{place}_2x.png" for place in range(150))
    assert all(read_image(path).pixels.shape == (40, 48, 3) for path in Path("out").iterdir())


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to another process")
def test_ctrl_c_leaves_whole_files_only(here: Path, tiny: Path) -> None:
    for place in range(150):
        picture(f"in/{place}.png")
    process = start("in", "-n", tiny, "-o", "out", "--json", "--quiet")
    assert process.stdout is not None
    first = process.stdout.readline()  # the first is done
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == "esc-sr: interrupted\n"
    written = sorted(str(path) for path in Path("out").iterdir())
    assert written == sorted(record["target"] for record in records(first + out))
    assert len(written) < 150
    assert all(read_image(path).pixels.shape == (40, 48, 3) for path in written)


def test_what_is_no_picture_is_counted_by_its_kind(
    here: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture("in/a.png")
    for name in (
        "b.CR2",
        "deep/c.nef",
        "d.pdf",
        "e.svg",
        "f.txt",
        "g.txt",
        "README",
        "h.heic",
        ".hidden.txt",
    ):
        Path("in", name).parent.mkdir(exist_ok=True)
        Path("in", name).write_bytes(b"something")
    for name in ("gone.png", "gone"):
        Path("in", name).symlink_to("nowhere")
    monkeypatch.setattr("esc_sr.image.plugins.find_spec", lambda name: None)
    code, out, err = upscale("in", "-n", tiny, "-o", "out")
    assert code == 0 and out.count("\n") == 1
    last = err.splitlines()[-1].removeprefix("esc-sr: left out: ")
    assert set(last.split(", ")) > {"2 .txt", "1 suffixless file", "2 broken links"}
    assert "2 RAW (develop it first, to a TIFF of 16 bits)" in last
    assert "1 HEIC (needs one more package: pip install 'esc-sr[heic]')" in last
    assert "1 PDF (render its pages first" in last and "1 SVG (a drawing" in last
    assert "left out" not in upscale("in", "-n", tiny, "-o", "out", "--overwrite", "--quiet")[2]


@pytest.mark.parametrize("options", [(), ("--quiet",), ("--json",)])
def test_a_folder_in_which_nothing_can_be_done(here: Path, options: tuple[str, ...]) -> None:
    Path("in").mkdir()
    assert upscale("in", *options)[0] == 2  # empty
    Path("in/a.dng").write_bytes(b"II*\0")
    code, out, err = upscale("in", *options)
    assert (code, out) == (1, "")
    assert err == "esc-sr: left out: 1 RAW (develop it first, to a TIFF of 16 bits)\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.cr3", "a.cr3: RAW; develop it first, to a TIFF of 16 bits"),
        ("a.pdf", "a.pdf: PDF; render its pages first, to PNG of 300 dpi"),
        ("a.svg", "a.svg: SVG; a drawing has any size: render it as large as it is wanted"),
        ("a.txt", "a.txt: no picture format ends in '.txt'; .png, .jpg, "),
    ],
)
def test_a_file_of_another_kind_says_what_to_do_first(here: Path, name: str, said: str) -> None:
    Path(name).write_bytes(b"something")
    code, _, err = upscale(name)
    assert code == 2 and err.startswith(f"esc-sr: error: {said}") and err.count("\n") == 1
    Path("link.png").symlink_to("nowhere")
    assert upscale("link.png")[2] == "esc-sr: error: link.png: a broken link\n"


def test_what_is_read_only_becomes_png(here: Path, tiny: Path) -> None:
    for name in ("a.bmp", "b.tga", "c.ppm", "d.jp2", "twin.bmp"):
        Image.fromarray(noise(20, 24, 3)).save(name)
    Image.fromarray(noise(20, 24, 3)).save("e.jfif", "JPEG")
    picture("twin.png")
    code, out, err = upscale(".", "-n", tiny, "-o", "out")
    assert code == 1
    assert (
        "error: twin.bmp: would become out/twin_2x.png, as twin.png does; rename one, or give --name" in err
    )
    made = ["a_2x.png", "b_2x.png", "c_2x.png", "d_2x.png", "e_2x.jfif", "twin_2x.png"]
    assert sorted(os.listdir("out")) == made
    assert (
        upscale("twin.bmp", "twin.png", "-n", tiny, "-o", "out", "--name", "{stem}_{suffix}_{size}")[0] == 0
    )
    assert Path("out/twin_bmp_2x.png").exists() and Path("out/twin_png_2x.png").exists()
    assert upscale("a.bmp", "-n", tiny, "-f", "webp")[0] == 0 and Path("a_2x.webp").exists()
    code, _, err = upscale("a.bmp", "-n", tiny, "-o", "a2.bmp")
    assert code == 2 and "a2.bmp: neither a folder (ends in /) nor a picture" in err


def test_time_left() -> None:
    assert time_left(0, 10, 5) == ""
    assert time_left(2, 10, 5) == "0:20 left"
    assert time_left(1, 1000, 4) == "1:06:36 left"


def test_the_last_line_names_some_of_many(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter("esc", "fp32", as_json=False, quiet=True, bar=Bar(quiet=True))
    for place in range(30):
        reporter.say(Outcome(Path(f"{place}.png"), None, "failed", "damaged"))
    with pytest.raises(typer.Exit) as raised:
        reporter.finish({})
    assert raised.value.exit_code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("esc-sr: 30 of 30 failed: 0.png, 1.png") and last.endswith("19.png, and 10 more")
