"""`esc-sr check-data`: everything that is wrong, in all folders, and nothing else."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from esc_sr.cli.main import app
from esc_sr.data.check import check_pictures
from esc_sr.errors import UsageError


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(folder: Path, **pictures: NDArray[np.uint8]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def check(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["check-data", *map(str, arguments)])


def test_good_pictures_are_only_counted(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", one=noise(16, 16), two=noise(16, 17))
    result = check(folder, "--scale", 2, "--patch", 8)
    assert result.exit_code == 0
    assert result.output == "2 pictures, 0 unreadable, 0 small, 0 unpaired, 0 mismatch, 0 duplicate\n"


def test_everything_wrong_is_a_line_across_all_roots(tmp_path: Path) -> None:
    first = write(tmp_path / "first", good=noise(20, 20), small=noise(15, 40, 1))
    (first / "void.jpg").touch()
    (first / "half.png").write_bytes((first / "good.png").read_bytes()[:300])
    shard = tmp_path / "second.tar"
    with tarfile.open(shard, "w") as tar:
        for name, seed in (("other.png", 2), ("again.webp", 0)):
            file = io.BytesIO()
            Image.fromarray(noise(20, 20, seed)).save(file, name.split(".")[1], lossless=True)
            info = tarfile.TarInfo(name)
            info.size = file.tell()
            file.seek(0)
            tar.addfile(info, file)
    result = check(first, shard, "-s", 2, "--patch", 8)
    assert result.exit_code == 1
    unreadable, void, small, duplicate, summary = result.output.splitlines()
    assert unreadable.startswith(
        f"unreadable  {first / 'half.png'}: cannot read half.png: not a complete PNG"
    )
    assert void == f"unreadable  {first / 'void.jpg'}: cannot read void.jpg: the file is empty"
    assert small == f"small       {first / 'small.png'}: 40 x 15 px, 16 needed on each side"
    assert duplicate == f"duplicate   {shard / 'again.webp'}: same pixels as {first / 'good.png'}"
    assert summary == "6 pictures, 2 unreadable, 1 small, 0 unpaired, 0 mismatch, 1 duplicate"


def test_pairs_are_checked_and_json_says_the_same(tmp_path: Path) -> None:
    hr = write(tmp_path / "hr", a=noise(20, 20), b=noise(21, 20, 1), c=noise(20, 20, 2), d=noise(20, 20, 3))
    lr = write(tmp_path / "lr", ax2=noise(10, 10), bx2=noise(10, 10), cx2=noise(9, 10), ex2=noise(10, 10))
    result = check(hr, "--lr", lr, "-s", 2, "--patch", 10, "--json")
    assert result.exit_code == 1
    *findings, summary = map(json.loads, result.output.splitlines())
    assert [(finding["kind"], finding["text"]) for finding in findings] == [
        ("unpaired", "d.png has no LR"),
        ("unpaired", "ex2.png in LR has no HR"),
        ("mismatch", "c.png is 20 x 20 px in HR and 10 x 9 in LR, which x2 makes 20 x 18"),
    ]
    assert summary == {
        "pictures": 8, "unreadable": 0, "small": 0, "unpaired": 2, "mismatch": 1, "duplicate": 0
    }  # fmt: skip
    with pytest.raises(UsageError, match="2 --lr for 1 folders"):
        check_pictures([hr], [lr, lr])
    assert check(tmp_path / "none").exit_code == 2
