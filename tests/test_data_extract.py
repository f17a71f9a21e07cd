"""`esc-sr extract`: tiles that cover every picture, in folders and shards."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from esc_sr.cli.main import app
from esc_sr.data.extract import corners_along, extract, reduced_sizes
from esc_sr.data.pictures import find_pictures
from esc_sr.errors import DataError, UsageError


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(folder: Path, **pictures: NDArray[np.uint8]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["extract", *map(str, arguments)])


@pytest.mark.parametrize(
    ("length", "corners"),
    [(40, [0]), (48, [0]), (49, [0, 1]), (72, [0, 24]), (73, [0, 24, 25]), (96, [0, 24, 48])],
)
def test_tiles_along_a_side_end_at_the_edge(length: int, corners: list[int]) -> None:
    assert corners_along(length, 48, 24) == corners


def test_reduced_pictures_are_cut_too(tmp_path: Path) -> None:
    assert reduced_sizes(1000, 1501) == [(750, 1125), (500, 750), (333, 500), (400, 600)]
    assert reduced_sizes(400, 300) == [(300, 225), (200, 150), (133, 100)]  # nothing is enlarged
    picture = noise(60, 80)
    root, out = write(tmp_path / "in", a=picture), tmp_path / "out"
    result = run(root, out, "--side", 48, "--step", 48, "--multiscale")
    assert result.exit_code == 0, result.output
    tiles = [entry.read() for entry in find_pictures(out)]
    assert [tile.shape[:2] for tile in tiles] == [(48, 48)] * 4 + [(45, 48), (45, 48), (30, 40), (20, 26)]
    smaller = Image.fromarray(picture).resize((40, 30), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(tiles[6], np.asarray(smaller))
    assert run(root, out, "--side", 48, "--step", 48, "--multiscale", "--skip-existing").exit_code == 0


def test_tiles_are_the_parts_of_the_picture(tmp_path: Path) -> None:
    picture = noise(70, 50)
    root = write(tmp_path / "in" / "sub", a=picture).parent
    out = tmp_path / "out"
    result = run(root, out, "--side", 48, "--step", 24)
    assert (result.exit_code, result.output) == (0, f"4 tiles in {out}\n")
    tiles = {entry.name: entry.read() for entry in find_pictures(out)}
    assert list(tiles) == [f"sub/a_00{number}.png" for number in (1, 2, 3, 4)]
    corners = [(0, 0), (0, 2), (22, 0), (22, 2)]
    for pixels, (top, left) in zip(tiles.values(), corners, strict=True):
        np.testing.assert_array_equal(pixels, picture[top : top + 48, left : left + 48])


def test_smaller_pictures_are_kept_and_bad_ones_named_at_the_end(tmp_path: Path) -> None:
    root = write(tmp_path / "in", low=noise(20, 60), tiny=noise(9, 8))
    (root / "bad.png").write_bytes(b"no picture")
    shard = tmp_path / "out.tar"
    result = run(root, shard, "--side", 48, "--step", 48)
    assert result.exit_code == 1
    assert f"3 tiles in {shard}; 1 pictures left out" in result.output
    assert "error: cannot read bad.png" in result.output
    tiles = {entry.name: entry.read() for entry in find_pictures(shard)}
    assert list(tiles) == ["low_001.png", "low_002.png", "tiny_001.png"]
    np.testing.assert_array_equal(tiles["low_002.png"], noise(20, 60)[:, 12:])
    np.testing.assert_array_equal(tiles["tiny_001.png"], noise(9, 8))
    with tarfile.open(shard) as tar:
        assert {(member.mtime, member.uname) for member in tar} == {(0, "")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.tar"]


def test_several_inputs_have_folders_of_their_own(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", a=noise(9, 9)), write(tmp_path / "two", a=noise(9, 9, 1))
    assert extract([one, two], tmp_path / "out") == (2, [])
    assert [entry.name for entry in find_pictures(tmp_path / "out")] == ["one/a_001.png", "two/a_001.png"]


def test_nothing_is_overwritten_and_mistakes_show_first(tmp_path: Path) -> None:
    root = write(tmp_path / "in", a=noise(9, 9))
    with pytest.raises(UsageError, match="exists already"):
        extract([root], root)
    (tmp_path / "there.tar").write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists already"):
        extract([root], tmp_path / "there.tar")
    assert (tmp_path / "there.tar").read_bytes() == b"mine"
    with pytest.raises(UsageError, match="both must be at least 1"):
        extract([root], tmp_path / "out", step=0)
    with pytest.raises(UsageError, match="cannot be written"):
        extract([root], tmp_path / "missing" / "out.tar")
    with pytest.raises(DataError, match="no such folder"):
        extract([tmp_path / "none"], tmp_path / "out")
    Image.fromarray(noise(9, 9)).save(root / "a.jpg")
    with pytest.raises(UsageError, match=r"a\.jpg and .*a\.png would both become a_001\.png"):
        extract([root], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_broken_run_goes_on(tmp_path: Path) -> None:
    root = write(tmp_path / "in", a=noise(70, 50), b=noise(70, 50, 1), c=noise(9, 9))
    out = tmp_path / "out"
    size = "--side", 48, "--step", 24
    assert run(root, out, *size).exit_code == 0
    whole = {entry.name: entry.read() for entry in find_pictures(out)}
    (out / "b_004.png").unlink()
    (out / "c_001.png").unlink()
    made = (out / "a_001.png").stat().st_mtime_ns
    assert "exists already" in run(root, out, *size).output
    assert run(root, out, *size, "--skip-existing").output == f"5 tiles in {out}\n"
    again = {entry.name: entry.read() for entry in find_pictures(out)}
    assert again.keys() == whole.keys() and all((again[name] == whole[name]).all() for name in whole)
    assert (out / "a_001.png").stat().st_mtime_ns == made
    assert run(root, out, *size, "--skip-existing").output == f"0 tiles in {out}\n"
    assert run(root, tmp_path / "new", *size, "--skip-existing").output == f"9 tiles in {tmp_path / 'new'}\n"
    with pytest.raises(UsageError, match="--skip-existing needs a folder"):
        extract([root], tmp_path / "out.tar", skip_existing=True)


def test_going_on_never_replaces_an_input(tmp_path: Path) -> None:
    root = write(tmp_path / "in", a=noise(9, 9), a_001=noise(9, 9, 1))
    other = write(tmp_path / "other", a=noise(9, 9))
    before = (root / "a_001.png").read_bytes()
    for inputs, out in (([root], root), ([root], root / "tiles"), ([root, other], tmp_path)):
        with pytest.raises(UsageError, match="is not apart from .*needs a folder of tiles only"):
            extract(inputs, out, skip_existing=True)
    assert (root / "a_001.png").read_bytes() == before
