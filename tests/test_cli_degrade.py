"""`esc-sr degrade`: samples and sheet, and what it refuses before the first one."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from esc_sr.cli.main import app
from esc_sr.image import Picture, read_image, write_image


def picture(path: Path, height: int = 42, width: int = 53) -> Path:
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    pixels = np.rint(255 * np.stack([y, x, (x + y) / 2], axis=-1)).astype(np.uint8)
    write_image(Picture(pixels), path)
    return path


def degrade(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["degrade", *map(str, arguments)])


def refused(*arguments: object) -> str:
    result = degrade(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("esc-sr: error: ") and result.stderr.count("\n") == 1
    return result.stderr


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_samples_of_files_and_folders_and_one_sheet(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "new" / "out"
    folder.mkdir()
    a, _ = picture(tmp_path / "a.png"), picture(folder / "b.jpg", 20, 24)
    result = degrade(a, folder, "-o", out, "--count", 2, "--sheet")
    assert result.exit_code == 0, result.stderr
    assert f"{a} 52 x 40 -> {out / 'a_0.png'} 13 x 10\n" in result.stdout
    assert names(out) == ["a_0.png", "a_1.png", "b_0.png", "b_1.png", "sheet.png"]
    samples = [read_image(out / f"a_{i}.png").pixels for i in range(2)]
    assert samples[0].shape == (10, 13, 3)
    assert not np.array_equal(samples[0], samples[1])

    sheet = read_image(out / "sheet.png").pixels
    shown = [sheet[28:68, start : start + 52] for start in (8, 272, 536)]  # below labels, 264 px apart
    np.testing.assert_array_equal(shown[0], read_image(a).pixels[:40, :52])
    for found, sample in zip(shown[1:], samples, strict=True):
        np.testing.assert_array_equal(found, sample.repeat(4, axis=0).repeat(4, axis=1))
    assert (sheet[68:292] == 255).all() and sheet[292:316].min() < 128  # white, then the next labels
    assert sheet[320:340, 8:32].std() > 0 and (sheet[320:340, 32:272] == 255).all()


def test_a_sheet_shows_the_middle_of_a_large_picture(tmp_path: Path) -> None:
    large = picture(tmp_path / "large.png", 20, 400)
    assert degrade(large, "-o", tmp_path / "out", "--count", 1, "--sheet").exit_code == 0
    sheet = read_image(tmp_path / "out" / "sheet.png").pixels
    np.testing.assert_array_equal(sheet[28:48, 8:264], read_image(large).pixels[:, 72:328])


def test_the_seed_decides_and_other_pictures_do_not(tmp_path: Path) -> None:
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", 33, 33)
    for out, arguments in {"1": (a,), "2": (b, a), "3": (a, "--seed", 1)}.items():
        assert degrade(*arguments, "-o", tmp_path / out, "--count", 1, "--scale", 2).exit_code == 0
    first, second, third = (read_image(tmp_path / out / "a_0.png").pixels for out in "123")
    assert first.shape == (21, 26, 3)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)


def test_existing_files_are_kept_without_overwrite(tmp_path: Path) -> None:
    a, out = picture(tmp_path / "a.png"), tmp_path / "out"
    out.mkdir()
    (out / "a_1.png").write_bytes(b"mine")
    assert "a_1.png exists already; give --overwrite" in refused(a, "-o", out)
    assert names(out) == ["a_1.png"] and (out / "a_1.png").read_bytes() == b"mine"
    assert degrade(a, "-o", out, "--overwrite").exit_code == 0
    assert read_image(out / "a_1.png").pixels.shape == (10, 13, 3)


@pytest.mark.parametrize("sheet", [False, True])
def test_inputs_that_would_become_one_file_are_refused(tmp_path: Path, sheet: bool) -> None:
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "a.jpg")
    assert f"{a} and {b} would both become" in refused(a, b, "-o", tmp_path / "out", *["--sheet"] * sheet)
    assert not (tmp_path / "out").exists()


def test_inputs_and_outputs_that_cannot_work_are_one_line(tmp_path: Path) -> None:
    a, out = picture(tmp_path / "a.png"), tmp_path / "out"
    assert "no such picture or folder" in refused(a, tmp_path / "missing.png", "-o", out)
    assert not out.exists()
    assert "cannot be made" in refused(a, "-o", a / "out")
    (tmp_path / "text.png").write_text("no picture")
    assert "text.png" in refused(tmp_path / "text.png", "-o", out)
    small = picture(tmp_path / "small.png", 3, 9)
    assert "9 x 3 px, a side must be at least 4" in refused(small, "-o", out)
