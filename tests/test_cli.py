"""The command line from end to end: what is printed where, exit codes, files written and kept."""

import contextlib
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import esc_sr
from esc_sr.cli.main import app, main
from esc_sr.families.contract import Network
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.image import Encoding, Picture, read_image, write_image
from esc_sr.upscaling import models
from esc_sr.weights import save

ROOT = Path(__file__).parents[1]
Process = subprocess.Popen[str]
TINY = ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints tiny.safetensors (x2) and tiny3.safetensors (x3)."""
    folder = tmp_path_factory.mktemp("weights")
    for name, scale in (("tiny", 2), ("tiny3", 3)):
        torch.manual_seed(scale)
        save(ESC(replace(TINY, scale=scale)), folder / f"{name}.safetensors")
    return folder / "tiny.safetensors"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(path: Path | str, height: int = 20, width: int = 24) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    write_image(Picture(pixels), path)
    return Path(path)


class Result:
    def __init__(self, *arguments: str | Path) -> None:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_picture_is_written_beside_the_input(here: Path, tiny: Path) -> None:
    picture("photo.png")
    result = Result("upscale", "photo.png", "-n", tiny, "--device", "cpu")
    assert result.code == 0
    assert re.fullmatch(r"esc-sr: 24 x 20 in one piece, about 2 MiB of \d+\.\d GiB\n", result.err)
    words = "photo.png 24x20 -> photo_2x.png 48x40, tiny.safetensors x2, cpu, fp32, "
    assert result.out.startswith(words) and result.out.endswith(" s\n")
    np.testing.assert_array_equal(read_image("photo_2x.png").pixels, esc_sr.upscale("photo.png", tiny))
    assert files(here) == ["photo.png", "photo_2x.png"]


def test_quiet_says_nothing(here: Path, tiny: Path) -> None:
    result = Result("upscale", picture("a.png"), "-n", tiny, "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert Path("a_2x.png").exists()


def test_options_reach_the_engine(here: Path, tiny: Path) -> None:
    picture("a.png")
    options = ("--self-ensemble", "--precision", "bf16", "--threads", "1", "-f", "tiff", "-o", "out/")
    result = Result("upscale", "a.png", "-n", tiny, *options, "--max-memory", "1GiB")
    assert result.code == 0 and result.err.endswith("MiB of 1.0 GiB\n")
    assert f"{Path('out', 'a_2x.tiff')} 48x40" in result.out and "bf16" in result.out
    expected = esc_sr.upscale("a.png", tiny, precision="bf16", self_ensemble=True)
    np.testing.assert_array_equal(read_image("out/a_2x.tiff").pixels, expected)
    assert torch.get_num_threads() == 1


def test_options_reach_the_file(here: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(Picture(np.zeros((20, 24, 4), np.uint8), xmp=b"<x>secret</x>"), "a.png")
    options = ("--quality", "30", "--subsampling", "4:2:0", "--background", "#00ff00", "--strip-metadata")
    result = Result("upscale", "a.png", "-n", tiny, "-f", "jpg", *options)
    assert (result.code, result.err.count("\n")) == (0, 2)  # the plan, and
    assert result.err.endswith("esc-sr: jpeg holds no transparency: laid on #00ff00\n")
    assert np.abs(read_image("a_2x.jpg").pixels - np.array([0.0, 255, 0])).max() < 9
    plain = here / "plain.jpg"
    write_image(Picture(read_image("a_2x.jpg").pixels), plain, encoding=Encoding(30, "4:2:0"))
    assert plain.stat().st_size == Path("a_2x.jpg").stat().st_size
    assert Result("upscale", "a.png", "-n", tiny, "-f", "webp", "--lossless").code == 0
    assert b"VP8L" in Path("a_2x.webp").read_bytes() and b"secret" in Path("a_2x.webp").read_bytes()
    monkeypatch.setattr("esc_sr.upscaling.work.MAX_WORK", 400)
    refused = Result("upscale", "a.png", "-n", tiny, "--overwrite")
    assert refused.code == 2 and "--allow-large" in refused.err
    assert Result("upscale", "a.png", "-n", tiny, "--overwrite", "--allow-large").code == 0


def test_what_is_lost_is_said_once_and_not_when_quiet(here: Path, tiny: Path) -> None:
    for name in ("a.png", "b.png"):
        write_image(Picture(np.zeros((4, 5, 4), np.uint8)), name)
    result = Result("upscale", ".", "-n", tiny, "-f", "jpg", "-o", "out")
    assert (result.code, result.err.count("\n")) == (0, 2)  # the plan, and
    assert result.err.endswith("esc-sr: jpeg holds no transparency: laid on white\n")
    quiet = Result("upscale", ".", "-n", tiny, "-f", "jpg", "-o", "quiet", "--quiet")
    assert (quiet.code, quiet.err) == (0, "")


def test_scale_comes_from_the_checkpoint(here: Path, tiny: Path) -> None:
    result = Result("upscale", picture("a.png"), "-n", tiny.with_name("tiny3.safetensors"))
    assert "a_3x.png 72x60" in result.out


def test_another_scale_than_the_checkpoint_has(here: Path, tiny: Path) -> None:
    result = Result("upscale", picture("a.png"), "-n", tiny, "-s", "3")
    assert result.code == 2
    assert result.err.startswith("esc-sr: error: ") and result.err.count("\n") == 1
    assert "x2" in result.err and "x3" in result.err
    assert files(here) == ["a.png"]


def test_default_is_the_bundled_light_model(here: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, device: torch.device, scale: int | None, **engine: object) -> nn.Module:
        asked.append((name, scale))
        return ESC(replace(TINY, scale=scale or 2))

    monkeypatch.setattr(models, "load", load)
    picture("a.png")
    assert "a_2x.png 48x40, esc-light x2, " in Result("upscale", "a.png", "--device", "cpu").out
    assert "a_4x.png 96x80, esc-light x4, " in Result("upscale", "a.png", "-s", "4", "--device", "cpu").out
    assert asked == [("esc-light", 2), ("esc-light", 4)]


def test_no_such_model_lists_the_models(here: Path) -> None:
    result = Result("upscale", picture("a.png"), "-n", "no-such-model")
    assert result.code == 2
    assert "no-such-model" in result.err and "bundled" in result.err and result.err.count("\n") == 1


def test_bad_pictures_are_reported_and_the_others_done(here: Path, tiny: Path) -> None:
    picture("good.png")
    Path("bad.png").write_bytes(b"not a picture")
    Path("cut.png").write_bytes(picture("whole.png").read_bytes()[:500])
    Path("whole.png").unlink()
    result = Result("upscale", ".", "missing.png", "-n", tiny, "-o", "out")
    assert result.code == 1
    lines = result.err.splitlines()  # the plan of the good one may come before or after the last error
    errors = [line for line in lines if line.startswith("esc-sr: error: ")]
    for name, line in zip(("missing.png", "bad.png", "cut.png"), errors, strict=True):
        assert name in line
    assert len(lines) == 5 and "24 x 20" in result.err
    assert lines[-1] == "esc-sr: 3 of 4 failed: missing.png, bad.png, cut.png"
    assert files(Path("out")) == ["good_2x.png"]


@pytest.mark.parametrize("name", ["bad.png", "missing.png", "notes.txt"])
def test_a_single_bad_input_is_one_line(here: Path, tiny: Path, name: str) -> None:
    if name != "missing.png":
        Path(name).write_bytes(b"not a picture")
    result = Result("upscale", name, "-n", tiny)
    assert result.code == 2
    assert result.err.count("\n") == 1 and name in result.err
    assert not list(here.glob("*_2x*"))


def test_all_failed_is_exit_code_2(here: Path, tiny: Path) -> None:
    for name in ("a.png", "b.png"):
        Path(name).write_bytes(b"not a picture")
    result = Result("upscale", "a.png", "b.png", "-n", tiny)
    assert result.code == 2
    assert result.err.splitlines()[-1] == "esc-sr: 2 of 2 failed: a.png, b.png"
    assert Result("upscale", "x.png", "y.png").err.splitlines()[-1] == "esc-sr: 2 of 2 failed: x.png, y.png"


def test_an_existing_output_is_kept_without_overwrite(here: Path, tiny: Path) -> None:
    picture("a.png")
    Path("a_2x.png").write_bytes(b"precious")
    result = Result("upscale", "a.png", "-n", tiny)
    assert result.code == 2 and "--overwrite" in result.err
    assert Path("a_2x.png").read_bytes() == b"precious"
    assert Result("upscale", "a.png", "-n", tiny, "--overwrite").code == 0
    assert read_image("a_2x.png").pixels.shape == (40, 48, 3)


def test_the_input_is_never_overwritten(here: Path, tiny: Path) -> None:
    before = picture("a.png").read_bytes()
    result = Result("upscale", "a.png", "-n", tiny, "-o", "./a.png", "--overwrite")
    assert result.code == 2 and "never overwritten" in result.err
    assert Path("a.png").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-o", "no/folder/a.png"), "no such folder"),
        (("-f", "bmp"), "png, jpg"),
        (("--quality", "0"), "1 to 100"),
        (("--subsampling", "4:1:1"), "4:2:0"),
        (("--background", "pink"), "#rrggbb"),
        (("--device", "toaster"), "auto, cpu"),
        (("--precision", "fp8"), "fp32, bf16, fp16"),
        (("--max-memory", "much"), "512MiB, 4GiB"),
    ],
)
def test_impossible_options_are_one_line(here: Path, tiny: Path, options: tuple[str, ...], said: str) -> None:
    result = Result("upscale", picture("a.png"), "-n", tiny, *options)
    assert result.code == 2 and said in result.err
    assert result.err.startswith("esc-sr: error: ") and result.err.count("\n") == 1
    assert files(here) == ["a.png"]


@pytest.mark.parametrize("options", [(), ("a.png", "-s", "0"), ("a.png", "-s", "two"), ("a.png", "--what")])
def test_usage_errors_are_exit_code_2(here: Path, options: tuple[str, ...]) -> None:
    result = Result("upscale", *options)
    assert result.code == 2 and "Traceback" not in result.err


class Failing(Network):
    """Raises what it is given in the second call."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.config = TINY
        self.error = error
        self.calls = 0

    def forward(self, lr: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 2:
            raise self.error
        return lr.repeat_interleave(2, -1).repeat_interleave(2, -2)


def fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Result:
    for name in ("a.png", "b.png", "c.png"):
        picture(name)
    model = Failing(error)
    monkeypatch.setattr(models, "load", lambda name, device, scale, **engine: model)
    return Result("upscale", "a.png", "b.png", "c.png")


def test_too_little_memory_for_one_of_three(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = fail(monkeypatch, MemoryError())
    assert result.code == 1
    assert result.err.startswith("esc-sr: error: b.png: not enough memory")
    assert files(here) == ["a.png", "a_2x.png", "b.png", "c.png", "c_2x.png"]


def test_ctrl_c_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = fail(monkeypatch, KeyboardInterrupt())
    assert (result.code, result.err) == (130, "esc-sr: interrupted\n")
    assert files(here) == ["a.png", "a_2x.png", "b.png", "c.png"]


def test_a_real_bug_shows_itself(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(monkeypatch, ZeroDivisionError())


def test_help_names_every_verb() -> None:
    result = Result("--help")
    assert result.code == 0
    for verb in ("upscale", "compare", "train", "info", "convert", "mix", "models"):
        assert verb in result.out


def test_verbs_that_are_imported_late_bring_their_own_options() -> None:
    assert "classic" in Result("train", "--help").out
    assert "--iterations" in Result("train", "classic", "--help").out
    assert "--to" in Result("convert", "--help").out
    assert Result("train", "no-such-recipe").code == 2


def test_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert Result("--version").out == f"esc-sr {project['version']}\n"


def start(*arguments: str | Path, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE) -> Process:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TERM": "xterm"}
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, text=True, stdout=stdout, stderr=stderr
    )


def test_help_does_not_import_torch() -> None:
    code = "import sys; from esc_sr.cli.main import main; sys.argv[1:] = ['--help']; main()"
    check = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules))"
    out, _ = start("-c", f"{check}; {code}").communicate(timeout=60)
    assert out.splitlines()[-1] == "False"


@pytest.mark.parametrize("set_by_the_user", [None, "ACTIVE"])
def test_threads_sleep_unless_the_user_wants_them_to_spin(
    monkeypatch: pytest.MonkeyPatch, set_by_the_user: str | None
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", set_by_the_user or "")
    if not set_by_the_user:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(sys, "argv", ["esc-sr", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ["OMP_WAIT_POLICY"] == (set_by_the_user or "PASSIVE")


def test_version_as_a_process() -> None:
    process = start("-m", "esc_sr", "--version")
    assert process.communicate(timeout=60) == (f"esc-sr {esc_sr.__version__}\n", "")
    assert process.returncode == 0


def test_a_reader_that_has_gone_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start("-m", "esc_sr", "--version", stdout=writer)
    os.close(writer)
    assert process.communicate(timeout=60)[1] == ""


def test_upscale_as_a_process_with_a_terminal_for_the_bar(here: Path, tiny: Path) -> None:
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    picture(os.fsdecode(b"caf\xe9.png"))  # a name that is not UTF-8
    terminal, end = pty.openpty()
    process = start("-m", "esc_sr", "upscale", ".", "-n", tiny, "--threads", "1", "-o", "out", stderr=end)
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # Linux says EIO at the end
        while piece := os.read(terminal, 65536):
            shown += piece
    os.close(terminal)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert b"0/1" in shown and b"\x1b[?25h" in shown  # the bar, and the cursor is back
    assert out.startswith("caf\\udce9.png 24x20 -> ") and out.count("\n") == 1
    assert read_image(next(Path("out").iterdir())).pixels.shape == (40, 48, 3)
