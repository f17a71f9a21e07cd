"""`--json` means the same in every command: JSON on standard output and nothing else, whatever happens."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer import Context
from typer.core import TyperGroup
from typer.main import get_command

import video_clips
from esc_sr import weights
from esc_sr.benchmark import measure
from esc_sr.cli.main import app, main
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.image import Picture, write_image

SHORT = "--runs 1 --device cpu --backend sdpa --json"
COMMANDS = {
    "upscale": ("upscale Set5/HR -n tiny.safetensors -o out --json", "upscale none.png --json"),
    "evaluate": (
        "evaluate -n tiny.safetensors -n bicubic --data Set5 --json",
        "evaluate -n bicubic --data Set5 --save Set5/HR/a.png --json",
    ),
    "analyze features": (
        "analyze features Set5/HR/a.png -n tiny.safetensors --json",
        "analyze features Set5/HR/a.png -n tiny.safetensors --layer x --json",
    ),
    "analyze receptive-field": (
        "analyze receptive-field Set5/HR/a.png -n tiny.safetensors --side 8 --json",
        "analyze receptive-field Set5/HR/a.png -n tiny.safetensors --json",
    ),
    "analyze kernels": (
        "analyze kernels Set5/HR/a.png -n tiny.safetensors --json",
        "analyze kernels -n tiny.safetensors --json",
    ),
    "analyze attention": (
        "analyze attention Set5/HR/a.png -n tiny.safetensors --json",
        "analyze attention -n tiny.safetensors --json",
    ),
    "analyze ablation": (
        "analyze ablation --data Set5/HR --benchmark Set5 --runs runs --variant esc-lk9 --iterations 1 "
        "--set batch=1 --set patch=8 --device cpu --json",
        "analyze ablation --data Set5/HR --benchmark Set5 --runs runs --json",
    ),
    "analyze compare": (
        "analyze compare --data Set5 -n bicubic -n tiny.safetensors --side 16 --json",
        "analyze compare --data Set5 -n bicubic --picture c --json",
    ),
    "analyze lam": (
        "analyze lam Set5/HR/a.png -n tiny.safetensors --steps 1 --cutout 16 --json",
        "analyze lam Set5/HR/a.png -n tiny.safetensors --patch 1 --json",
    ),
    "analyze similarity": (
        "analyze similarity Set5/HR/a.png -n tiny.safetensors --json",
        "analyze similarity none.png -n tiny.safetensors --json",
    ),
    "video": ("video clip.mkv -n tiny.safetensors --json", "video none.mkv --json"),
    "compare": ("compare Set5/HR/a.png Set5/HR/a.png --json", "compare Set5/HR/a.png none.png --json"),
    "benchmark complexity": (
        "benchmark complexity -n esc-light -s 4 --output-size 64x64 --json",
        "benchmark complexity -n nonsense --json",
    ),
    "benchmark latency": (
        f"benchmark latency -n esc-light -s 4 --input 8x8 {SHORT}",
        "benchmark latency --precision fp64 --json",
    ),
    "benchmark attention": (
        f"benchmark attention --window 8 --side 8 {SHORT}",
        "benchmark attention --backend fast --json",
    ),
    "benchmark training": (
        f"benchmark training --batch 1 --patch 8 {SHORT}",
        "benchmark training -n nonsense --json",
    ),
    "benchmark cpu": (
        "benchmark cpu -n tiny.safetensors -s 2 --output-size 16x16 --engine torch --precision fp32 "
        "--runs 1 --json",
        "benchmark cpu --engine tpu --json",
    ),
    "check-data": ("check-data Set5/HR -s 1 --patch 8 --json", "check-data none --json"),
    "info": ("info tiny.safetensors --json", "info none.safetensors --json"),
    "models": ("models --json", "models --nonsense --json"),
}
"""A call of each command that has `--json`, and one that fails."""

LINES = ("upscale", "check-data")
NAMES = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, with Set5 of two pictures and tiny.safetensors; all is measured in process."""
    monkeypatch.chdir(tmp_path)
    Path("Set5/HR").mkdir(parents=True)
    for seed, name in enumerate("ab"):
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 52, 3), dtype=np.uint8)
        write_image(Picture(pixels), f"Set5/HR/{name}.png")
    video_clips.make("clip.mkv")
    sizes: dict[str, Any] = {"dim": 16, "pdim": 8, "n_blocks": 1, "n_convattn": 1, "window": 8, "heads": 2}
    weights.save(ESC(ESCConfig(**sizes)), "tiny.safetensors")

    def child(case: measure.Case, device: torch.device) -> dict[str, Any]:
        return measure.memory(case, str(device), torch.get_num_threads())

    monkeypatch.setattr(measure, "_in_child", child)


def call(
    line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Run the program, and catch what it and its libraries write."""
    monkeypatch.setattr(sys, "argv", ["esc-sr", *line.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()
    return int(ended.value.code or 0), out, err


def parsed(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def with_json(command: Any, name: str = "") -> Iterator[tuple[str, bool]]:
    """The commands that have `--json`, and whether it is a flag there."""
    if isinstance(command, TyperGroup):
        context = Context(command)
        for part in command.list_commands(context):
            found = command.resolve_command(context, [part])[1]
            yield from with_json(found, f"{name} {part}".strip())
    yield from ((name, option.is_flag) for option in command.params if "--json" in option.opts)


def test_it_is_a_flag_everywhere_and_every_command_is_run_here() -> None:
    assert dict(with_json(get_command(app))) == dict.fromkeys(COMMANDS, True)


@NAMES
def test_standard_output_is_json(
    name: str, here: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(COMMANDS[name][0], monkeypatch, capfd)
    assert code == 0, err
    found = [parsed(line) for line in out.splitlines()] if name in LINES else parsed(out)
    assert found and all(isinstance(row, dict) for row in (found if isinstance(found, list) else [found]))
    if name in LINES:
        assert len(found) == {"upscale": 2, "check-data": 1}[name]
    assert name not in ("evaluate", "upscale") or ("tiny" in err and "tiny" in out)
    assert not name.startswith("benchmark") or ("esc-light" in err or "8x8" in err)


@NAMES
def test_an_error_leaves_no_half_document(
    name: str, here: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(COMMANDS[name][1], monkeypatch, capfd)
    assert code != 0 and err
    assert [parsed(line)["status"] for line in out.splitlines()] == ["failed"] * (name == "upscale")


def test_what_is_not_finite_is_null(
    here: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call("evaluate -n bicubic --hr Set5/HR --lr Set5/HR -s 1 --json", monkeypatch, capfd)
    (row,) = parsed(out)["rows"]
    assert code == 0 and row["psnr_y"] is None and row["images"][0]["psnr"] is None
    assert row["ssim_y"] == pytest.approx(1)
