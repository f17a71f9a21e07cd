"""`esc-sr evaluate`: what is measured, printed, written and refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from esc_sr import weights
from esc_sr.bicubic import downscale
from esc_sr.cli.main import app
from esc_sr.data.sets import BenchmarkSet, Item, Sample
from esc_sr.evaluate.run import ScoreRow
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.image import Picture, read_image, write_image
from esc_sr.image.sheet import CROP, Panel, most_different, strip

TINY: dict[str, Any] = {"dim": 16, "pdim": 8, "n_blocks": 1, "n_convattn": 1, "window": 8, "heads": 2}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with Set5 of two pictures and tiny.safetensors (x2)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    rng = np.random.default_rng(5)
    for name in ("a", "b"):
        hr = rng.integers(0, 256, (48, 52, 3), dtype=np.uint8)
        for path, pixels in ((f"Set5/HR/{name}", hr), (f"Set5/LR_bicubic/X2/{name}x2", downscale(hr, 2))):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_image(Picture(pixels), f"{path}.png")
    torch.manual_seed(0)
    weights.save(ESC(ESCConfig(**TINY)), "tiny.safetensors")
    return tmp_path


def evaluate(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_rows_for_every_model_set_and_scale(here: Path) -> None:
    result = evaluate("-n", "tiny.safetensors", "-n", "bicubic", "--data", "Set5", "--per-image", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    rows = document["rows"]
    assert [(row["model"], row["set"], row["scale"]) for row in rows] == [
        ("tiny", "Set5", 2),
        ("bicubic", "Set5", 2),
    ]
    for row in rows:
        assert row["complete"] and [image["name"] for image in row["images"]] == ["a", "b"]
        assert row["psnr_y"] == pytest.approx(np.mean([image["psnr"] for image in row["images"]]))
        assert f"{row['psnr_y']:.2f}/{row['ssim_y']:.4f}" in result.stderr
        assert row["protocol"]["padding"] == "image" and row["protocol"]["rounded"]
    assert document["environment"]["torch"] == torch.__version__


def test_lr_is_made_for_a_scale_without_files_and_folders_may_follow(here: Path) -> None:
    result = evaluate("-n", "bicubic", "-s", "2", "-s", "3", "--data", "Set5", "Set5/HR", "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)["rows"]
    assert [(row["set"], row["scale"], row["source"]) for row in rows] == [
        ("Set5", 2, "LR_bicubic/X2"),
        ("Set5", 2, "made from HR"),
        ("Set5", 3, "made from HR"),
        ("Set5", 3, "made from HR"),
    ]
    assert rows[0]["psnr_y"] == rows[1]["psnr_y"]


def test_pictures_and_a_sheet_are_kept(here: Path) -> None:
    assert evaluate("-n", "tiny.safetensors", "--data", "Set5", "--save", "out").exit_code == 0
    assert read_image("out/Set5_x2/tiny/a.png").pixels.shape == (48, 52, 3)
    sheet = read_image("out/Set5_x2/sheet.png").pixels
    assert sheet.shape[0] > 2 * 3 * 48 and sheet.shape[1] > 3 * 3 * 52


def test_files_of_one_name_are_told_apart(here: Path) -> None:
    Path("run").mkdir()
    torch.manual_seed(1)
    weights.save(ESC(ESCConfig(**TINY)), "run/tiny.safetensors")
    names = ["tiny.safetensors", "./run/tiny.safetensors"]
    wanted = [argument for name in (*names, names[0]) for argument in ("-n", name)]
    result = evaluate(*wanted, "--data", "Set5", "--save", "out", "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)["rows"]
    assert [row["model"] for row in rows] == names
    assert rows[0]["psnr_y"] != rows[1]["psnr_y"]
    folders = ("tiny.safetensors", "_run_tiny.safetensors")
    first, second = (read_image(f"out/Set5_x2/{folder}/a.png").pixels for folder in folders)
    assert not np.array_equal(first, second)


def test_paths_that_clean_up_to_one_name_keep_their_own_pictures(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, folder in enumerate(("run", "work/run")):
        Path(folder).mkdir(parents=True)
        torch.manual_seed(number)
        weights.save(ESC(ESCConfig(**TINY)), f"{folder}/tiny.safetensors")
    monkeypatch.chdir(here / "work")
    names = ("-n", "./run/tiny.safetensors", "-n", "../run/tiny.safetensors")
    assert evaluate(*names, "--data", "../Set5", "--save", "out").exit_code == 0
    kept = sorted(Path("out/Set5_x2").glob("*/a.png"))
    assert len(kept) == 2
    first, second = (read_image(path).pixels for path in kept)
    assert not np.array_equal(first, second)


def test_any_scale_of_an_lte_network(here: Path) -> None:
    weights.save(EncoderLTE(LTEConfig(ESCConfig(**TINY), 16, (16,))), "lte.safetensors")
    options = ("-n", "lte.safetensors", "-s", "2", "-s", "6", "--data", "Set5", "--channels", "rgb")
    result = evaluate(*options, "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    for row in document["rows"]:
        assert (row["protocol"]["padding"], row["protocol"]["channels"]) == ("features", "rgb")
        assert not row["protocol"]["rounded"] and row["table"] == 5
    assert [(row["scale"], len(row["images"])) for row in document["rows"]] == [(2, 2), (6, 2)]


def test_each_network_has_its_own_protocol(here: Path) -> None:
    weights.save(EncoderLTE(LTEConfig(ESCConfig(**TINY), 16, (16,))), "lte.safetensors")
    one, both = ("-n", "tiny.safetensors"), ("-n", "tiny.safetensors", "-n", "lte.safetensors")
    (alone,), rows = (
        json.loads(evaluate(*names, "--data", "Set5", "--json").stdout)["rows"] for names in (one, both)
    )
    assert rows[0] == alone
    assert [(row["protocol"]["padding"], row["protocol"]["rounded"], row["table"]) for row in rows] == [
        ("image", True, 2),
        ("features", False, 6),
    ]
    (row,) = json.loads(evaluate(*one, "--data", "Set5", "--table", "4", "--json").stdout)["rows"]
    assert row["table"] == 4


def test_niqe_by_the_parameters_of_a_file(here: Path) -> None:
    Path("real").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    write_image(Picture(pixels), "real/x.png")
    np.savez("authors.npz", mu=np.arange(36.0)[None], cov=np.eye(36))
    options = ("-n", "bicubic", "--lr", "real", "--save", "out", "--json")
    own, theirs = (
        json.loads(evaluate(*options, *more).stdout) for more in ((), ("--niqe-parameters", "authors.npz"))
    )
    assert (own["niqe_parameters"], theirs["niqe_parameters"]) == (None, "authors.npz")
    assert own["rows"][0]["niqe"] != theirs["rows"][0]["niqe"]
    words = ["compare", "out/real_x2/bicubic/x.png", "--niqe-parameters", "authors.npz", "--json"]
    alone = json.loads(CliRunner().invoke(app, words).stdout)
    assert alone["niqe"] == pytest.approx(theirs["rows"][0]["niqe"])


def test_without_ground_truth_niqe_is_measured(here: Path) -> None:
    Path("real").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    write_image(Picture(pixels), "real/x.png")
    result = evaluate("-n", "bicubic", "--lr", "real", "-s", "2", "--json")
    assert result.exit_code == 0 and "NIQE" in result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert row["niqe"] > 0 and row["psnr_y"] is None


def test_a_damaged_picture_is_named_and_the_rest_kept(here: Path) -> None:
    whole = Path("Set5/HR/a.png").read_bytes()
    Path("Set5/HR/a.png").write_bytes(whole[: len(whole) // 2])
    result = evaluate("-n", "bicubic", "--data", "Set5", "--json")
    assert result.exit_code == 1
    (row,) = json.loads(result.stdout)["rows"]
    assert not row["complete"] and [image["name"] for image in row["images"]] == ["b"]
    assert list(row["failed"]) == ["a"]
    assert "1 of 2" in result.stderr and "a.png" in result.stderr


def test_more_than_8_bits_are_marked(here: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (48, 52, 3), dtype=np.uint16)
    write_image(Picture(pixels), "Set5/HR/a.png", overwrite=True)
    result = evaluate("-n", "bicubic", "--data", "Set5", "--json")
    assert result.exit_code == 0 and "2, 1 rounded to 8 bits" in result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert [image.get("rounded_to_8_bits") for image in row["images"]] == [True, None]


def test_nan_is_a_marked_row(here: Path) -> None:
    model = ESC(ESCConfig(**TINY))
    with torch.no_grad():
        model.tail.weight.fill_(3e38)  # the sums overflow
    weights.save(model, "huge.safetensors")
    result = evaluate("-n", "huge.safetensors", "-n", "bicubic", "--data", "Set5")
    assert result.exit_code == 1
    assert "0 of 2" in result.stdout and "NaN" in result.stderr


def test_partial_results_survive_an_interruption(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = BenchmarkSet.load

    def interrupted(self: BenchmarkSet, item: Item) -> Sample:
        if item.name == "b":
            raise KeyboardInterrupt
        return load(self, item)

    monkeypatch.setattr(BenchmarkSet, "load", interrupted)
    result = evaluate("-n", "bicubic", "--data", "Set5", "--json")
    assert result.exit_code == 130
    (row,) = json.loads(result.stdout)["rows"]
    assert [image["name"] for image in row["images"]] == ["a"]
    assert "1 of 2" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-n", "tiny.safetensors", "-s", "3", "--data", "Set5"], "x3"),
        (["-n", "no-such", "--data", "Set5"], "no-such"),
        (["-n", "bicubic"], "--data DIR"),
        (["-n", "bicubic", "--data", "Set5", "--lr", "Set5"], "--data DIR"),
        (["-n", "bicubic", "--hr", "Set5"], "--data DIR"),
        (["-n", "bicubic", "--data", "none", "Set6"], "Set6: no such folder"),
        (["-n", "bicubic", "--data", "Set5", "--padding", "tiles"], "image or features"),
        (["-n", "bicubic", "--data", "Set5", "--precision", "fp8"], "fp32 or bf16 or fp16"),
        (["-n", "bicubic", "--data", "Set5", "-s", "0"], "scale 0"),
        (["-n", "bicubic", "--data", "Set5", "--channels", "rgb", "--table", "2"], "Table 2 is on y"),
        (["-n", "bicubic", "--lr", "Set5", "--niqe-parameters", "none.npz"], "cannot read none.npz"),
    ],
)
def test_mistakes_are_one_line(here: Path, arguments: list[str], words: str) -> None:
    result = evaluate(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr and result.stderr.count("\n") == 1


def test_the_papers_scores_stand_beside_ours() -> None:
    assert ScoreRow("light", "esc-light", "set5", 2, "", 5).paper() == (38.24, 0.9615)
    assert ScoreRow("light", "esc-light", "BSDS100", 4, "", 100).paper() == (27.72, 0.7423)
    assert ScoreRow("l", "esc-lte", "DIV2K_valid_HR", 30, "", 100, table=5).paper() == (20.64, None)
    assert ScoreRow("l", "esc-lte", "B100", 8, "", 100, table=6).paper() == (24.96, None)
    assert ScoreRow("lk9", "esc-lk9", "Set5", 2, "", 5, table=3).paper() == (38.33, 0.9618)
    assert ScoreRow("bicubic", None, "Set5", 2, "", 5).paper() is None
    assert ScoreRow("light", "esc-light", "mine", 2, "", 5).paper() is None


def test_the_cut_out_lies_where_pictures_differ_most() -> None:
    base = np.zeros((200, 300, 3), np.uint8)
    other = base.copy()
    other[120:150, 210:240] = 255
    top, left = most_different([base, other])
    assert top <= 120 and 150 <= top + CROP and left <= 210 and 240 <= left + CROP
    assert most_different([base[:20, :20], other[:20, :20]]) == (0, 0)
    drawn = strip([Panel("<one> & more\udcff\x01", base), Panel("two", other)])
    assert drawn.min() == 0 and drawn[:24].min() < 128  # letters, and black pixels


def test_help_says_what_several_sets_mean(here: Path) -> None:
    words = " ".join(evaluate("--help").stdout.replace("│", " ").split())
    assert "several, as --data A B or --data A --data B, are measured one by one" in words
    assert "with a row for each, and no mean over them" in words


def test_sets_that_would_be_saved_in_one_folder_are_refused(here: Path) -> None:
    (here / "more").mkdir()
    shutil.copytree(here / "Set5", here / "more" / "Set5")
    result = evaluate("-n", "bicubic", "--data", "Set5", "more/Set5", "--save", "out")
    assert result.exit_code == 2 and "several sets are called Set5" in result.stderr
    assert not (here / "out").exists()
    assert evaluate("-n", "bicubic", "--data", "Set5", "more/Set5").exit_code == 0
