"""`esc-sr upscale` in a terminal: what stands on its screen when the run is over, and from when on."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from esc_sr.cli.train import show
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.image import Picture, write_image
from esc_sr.weights import save

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

SOURCE = Path(__file__).parents[1] / "src"
CONTROL = re.compile(r"\x1b\[(\??\d*(?:;\d+)*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny.safetensors, and in `in` one damaged picture and three others."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save(ESC(ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)), "tiny.safetensors")
    Path("in").mkdir()
    for name in "abc":
        write_image(Picture(np.zeros((20, 24, 3), np.uint8)), f"in/{name}.png")
    Path("in/bad.png").write_bytes(b"no picture")
    return tmp_path


def in_terminal(*command: str, stdout: int | None = None) -> tuple[int, str]:
    """Run Python in a terminal of 300 columns; its exit code, and all that the terminal got."""
    terminal, end = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "TERM": "xterm", "COLUMNS": "300"}
    process = subprocess.Popen([sys.executable, *command], env=environment, stdout=stdout or end, stderr=end)
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # Linux says EIO at the end
        while piece := os.read(terminal, 65536):
            shown += piece
    os.close(terminal)
    return process.wait(), shown.decode()


def screen(shown: str) -> list[str]:
    """The lines that stand on a screen after what was written to it."""
    lines, row, column = [""], 0, 0
    for number, letter, carriage, newline, text in CONTROL.findall(shown):
        if carriage:
            column = 0
        elif newline:
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif letter == "A":
            row = max(row - int(number or 1), 0)
        elif letter == "K":
            lines[row] = lines[row][:column] if number in ("", "0") else ""
        elif text:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + text + line[column + len(text) :]
            column += len(text)
    return [line.rstrip() for line in lines if line.strip()]


UPSCALE = ("-m", "esc_sr", "upscale", "in", "-o", "out", "-n", "tiny.safetensors", "--threads", "1")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_lines_are_not_glued_to_the_bar(here: Path, options: tuple[str, ...]) -> None:
    code, shown = in_terminal(*UPSCALE, *options)
    assert code == 1, shown
    lines = screen(shown)
    assert "1/4" in shown and not any("/4 " in line for line in lines[:-1])  # the bar was there, and is gone
    pattern = r'\{"source": "in/\w+\.png".*\}' if options else r"in/[abc]\.png 24x20 -> .* s"
    others = [line for line in lines if not re.fullmatch(pattern, line)]
    assert len(lines) - len(others) == (4 if options else 3), lines
    assert all(line.startswith(("esc-sr: ", "in/")) for line in others), lines
    assert lines[-1] == "esc-sr: 1 of 4 failed: in/bad.png"


def test_results_go_where_stdout_goes(here: Path) -> None:
    with open("log.txt", "wb") as log:
        code, shown = in_terminal(*UPSCALE, stdout=log.fileno())
    assert code == 1
    written = Path("log.txt").read_text().splitlines()
    assert [line[:14] for line in written] == [f"in/{name}.png 24x20"[:14] for name in "abc"]
    assert not any("->" in line for line in screen(shown))


def test_the_bar_is_there_before_the_slow_imports(here: Path) -> None:
    watch = (
        "import sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'torch': print('IMPORTED', file=sys.__stderr__, flush=True)\n"
        "sys.meta_path.insert(0, Watch())\n"
        "from esc_sr.cli.main import main\n"
        f"sys.argv[1:] = {list(UPSCALE[2:])!r}\n"
        "main()\n"
    )
    _, shown = in_terminal("-c", watch)
    assert 0 <= shown.index("starting PyTorch") < shown.index("IMPORTED") < shown.index("loading tiny")


def test_no_picture_is_sent_to_a_terminal(here: Path) -> None:
    code, shown = in_terminal("-m", "esc_sr", "upscale", "in/a.png", "-o", "-")
    assert code == 2
    said = "esc-sr: error: -o -: standard output is a terminal; redirect it into a file or a program"
    assert screen(shown) == [said]


def test_reading_counts_in_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    for done in range(1, 4):
        show({"event": "loading", "what": "training", "done": done, "total": 3})
    assert capsys.readouterr().out == "reading training pictures: 3/3\n"


def test_videos_show_frames_a_second_and_the_time_left(here: Path) -> None:
    from video_clips import make

    make("clip.mkv", range(0, 30 * 512, 512))
    code, shown = in_terminal(
        "-m", "esc_sr", "video", "clip.mkv", "-n", "tiny.safetensors", "--device", "cpu"
    )
    assert code == 0, shown
    assert re.search(r"\d %.* left \d[\d.e+]* frames/s clip\.mkv", shown), shown
    assert "30 frames" in screen(shown)[-1]
