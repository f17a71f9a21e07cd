"""Benchmark sets in their usual layouts, and everything that is wrong with them at once."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from esc_sr.bicubic import Edge, downscale
from esc_sr.data.sets import find_set, paired_set
from esc_sr.errors import DataError
from esc_sr.image import Picture, write_image


def noise(height: int, width: int, seed: int = 0, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


HR, LR = noise(40, 44), noise(20, 22, 1)


def write(root: Path, **files: NDArray[np.uint8] | NDArray[np.uint16]) -> Path:
    """Write pictures; `__` in a name is a slash."""
    for name, pixels in files.items():
        path = root / (name.replace("__", "/") + ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(Picture(pixels), path)
    return root


@pytest.mark.parametrize(
    ("hr", "lr", "folder"),
    [
        ("HR/a", "LR_bicubic/X2/ax2", "."),
        ("HR/a", "LR_bicubic/X2/a", "."),
        ("X2/HR/a", "X2/LR/a", "."),
        ("GTmod12/a", "LRbicx2/a", "."),
        ("DIV2K_valid_HR/a", "DIV2K_valid_LR_bicubic/X2/ax2", "DIV2K_valid_HR"),
    ],
)
def test_pairs_are_found(tmp_path: Path, hr: str, lr: str, folder: str) -> None:
    write(tmp_path / "Set", **{hr.replace("/", "__"): HR, lr.replace("/", "__"): LR})
    found = find_set(tmp_path / "Set" / folder, 2)
    (sample,) = found.pairs()
    np.testing.assert_array_equal(sample.lr, LR)
    np.testing.assert_array_equal(sample.hr, HR)
    assert (sample.name, found.scale) == ("a", 2)
    assert found.name == ("Set" if folder == "." else folder)


@pytest.mark.parametrize("inner", ["HR/", "GTmod12/", ""])
def test_lr_of_another_scale_is_made(tmp_path: Path, inner: str) -> None:
    write(tmp_path / "Set", **{f"{inner}c".replace("/", "__"): HR}, LR_bicubic__X2__cx2=LR)
    found = find_set(tmp_path / "Set", 3)
    (sample,) = found.pairs()
    np.testing.assert_array_equal(sample.lr, downscale(HR, 3))
    np.testing.assert_array_equal(sample.hr, HR[:39, :42])
    assert found.source.startswith("made from")


def test_a_folder_called_hr_has_the_name_of_its_set(tmp_path: Path) -> None:
    assert find_set(write(tmp_path / "Set5", HR__a=HR) / "HR", 2).name == "Set5"


def test_two_folders_need_no_layout(tmp_path: Path) -> None:
    write(tmp_path, good__a=HR, bad__a_x2=LR)
    (sample,) = paired_set(tmp_path / "good", tmp_path / "bad", 2).pairs()
    np.testing.assert_array_equal(sample.lr, LR)


def test_pictures_without_ground_truth(tmp_path: Path) -> None:
    found = paired_set(None, write(tmp_path / "real", a=LR), 4)
    sample = found.load(found.items[0])
    assert sample.hr is None
    np.testing.assert_array_equal(sample.lr, LR)
    assert list(found.pairs()) == []


def test_grey_and_16_bits_become_8_bit_rgb(tmp_path: Path) -> None:
    wide = noise(8, 8, channels=1).astype(np.uint16) * 257
    grey = find_set(write(tmp_path / "s", HR__a=wide, LR_bicubic__X2__a=LR[:4, :4, :1]), 2)
    sample = grey.load(grey.items[0])
    assert sample.grey and sample.rounded and sample.hr is not None
    np.testing.assert_array_equal(sample.hr, (wide // 257).astype(np.uint8).repeat(3, axis=2))
    np.testing.assert_array_equal(sample.lr, LR[:4, :4, [0, 0, 0]])
    colour = find_set(write(tmp_path / "t", HR__a=HR), 2)
    sample = colour.load(colour.items[0])
    assert not sample.grey and not sample.rounded


def test_everything_that_is_wrong_is_listed(tmp_path: Path) -> None:
    write(tmp_path, HR__a=HR, HR__b=HR, HR__c=HR[:39], HR__d=HR)
    write(tmp_path / "LR_bicubic" / "X2", ax2=LR, cx2=LR, ex2=LR)
    with pytest.raises(DataError) as error:
        find_set(tmp_path, 2)
    for words in ("b.png has no partner", "d.png has no partner", "ex2.png has no partner"):
        assert words in str(error.value)
    write(tmp_path / "LR_bicubic" / "X2", bx2=LR[:10], dx2=LR).joinpath("ex2.png").unlink()
    (tmp_path / "LR_bicubic/X2/dx2.png").write_bytes(b"no picture")
    with pytest.raises(DataError) as error:
        find_set(tmp_path, 2)
    assert "b is 44 x 40 px in HR and 22 x 10 in LR, which x2 makes 44 x 20" in str(error.value)
    assert "c is 44 x 39 px" in str(error.value) and "dx2.png" in str(error.value)


def test_hr_may_be_larger_by_less_than_the_scale(tmp_path: Path) -> None:
    write(tmp_path, HR__a=noise(41, 45), LR_bicubic__X2__a=LR)
    (sample,) = find_set(tmp_path, 2).pairs()
    assert sample.hr.shape == (40, 44, 3)


def test_empty_missing_and_too_small(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        find_set(tmp_path / "none", 2)
    with pytest.raises(DataError, match="no pictures in it"):
        find_set(tmp_path, 2)
    with pytest.raises(DataError, match="no pictures"):
        paired_set(None, tmp_path, 2)
    with pytest.raises(DataError, match="a is 4 x 3 px, too small for x8"):
        find_set(write(tmp_path / "s", HR__a=noise(3, 4)), 8)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("name", "count"), [("Set5", 5), ("Set14", 14)])
def test_the_real_sets_fit_together(data_dir: Path, name: str, count: int, scale: int) -> None:
    edge: Edge = "mirror" if name == "Set5" else "replicate"
    pairs = list(find_set(data_dir / name, scale).pairs())
    assert len(pairs) == count
    np.testing.assert_array_equal(pairs[0].lr, downscale(pairs[0].hr, scale, edge=edge))
    assert all(pair.hr.shape[:2] == (scale * pair.lr.shape[0], scale * pair.lr.shape[1]) for pair in pairs)
