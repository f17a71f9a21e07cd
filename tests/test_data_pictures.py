"""Pictures found in folders and tar shards, and what is refused."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from esc_sr.data.pictures import find_pictures, load_pictures
from esc_sr.errors import DataError
from esc_sr.image import picture_files


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_folder_is_read_with_its_sub_folders(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "b.PNG").write_bytes(png(noise(8, 9, 1)))
    (tmp_path / "deep" / "er" / "a.png").write_bytes(png(noise(10, 8, 2)))
    (tmp_path / "notes.txt").write_text("no picture")
    pictures = load_pictures(find_pictures(tmp_path), 8)
    assert [picture.name for picture in pictures] == ["b.PNG", "deep/er/a.png"]
    np.testing.assert_array_equal(pictures[0].pixels, noise(8, 9, 1))
    np.testing.assert_array_equal(pictures[1].pixels, noise(10, 8, 2))


def test_tar_gives_the_same_pictures_as_a_folder(tmp_path: Path) -> None:
    shard = make_tar(
        tmp_path / "t.tar", {"x/a.png": png(noise(8, 9, 1)), "README": b"?", "b.png": png(noise(9, 9))}
    )
    done = []
    pictures = load_pictures(find_pictures(shard), 1, lambda at, total: done.append((at, total)))
    assert [picture.name for picture in pictures] == ["x/a.png", "b.png"]
    np.testing.assert_array_equal(pictures[0].pixels, noise(8, 9, 1))
    np.testing.assert_array_equal(pictures[1].pixels, noise(9, 9))
    assert done == [(1, 2), (2, 2)]


def test_hidden_files_are_left_out_and_links_followed_as_everywhere(tmp_path: Path) -> None:
    pictures = {"b.png": png(noise(8, 9, 1)), "x/a.png": png(noise(8, 9))}
    hidden = {"._b.png": b"of another system", "x/._a.png": b"", ".thumbnails/b.png": png(noise(4, 4))}
    for name, data in (pictures | hidden).items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    assert [entry.name for entry in find_pictures(tmp_path / "in")] == ["b.png", "x/a.png"]
    assert len(load_pictures(find_pictures(tmp_path / "in"), 8)) == 2
    assert [file.name for file in picture_files(tmp_path / "in", deep=False)] == ["b.png"]
    shard = make_tar(tmp_path / "t.tar", pictures | {f"./{name}": data for name, data in hidden.items()})
    assert [entry.name for entry in find_pictures(shard)] == ["b.png", "x/a.png"]
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "linked").symlink_to(tmp_path / "in")
    assert [entry.name for entry in find_pictures(tmp_path / "all")] == ["linked/b.png", "linked/x/a.png"]


def test_shards_in_a_folder_are_like_sub_folders(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    make_tar(
        tmp_path / "x" / "2.tar", {"b.png": png(noise(8, 9, 2)), "a/c.png": png(noise(8, 9, 3)), "t": b""}
    )
    with pytest.raises(DataError, match="holds no picture"):
        find_pictures(make_tar(tmp_path / "none.tar", {"README": b"?"}).parent / "none.tar")
    assert [entry.name for entry in find_pictures(tmp_path)] == ["x/2.tar/b.png", "x/2.tar/a/c.png"]
    for name in ("x/1.png", "x/3.png"):
        (tmp_path / name).write_bytes(png(noise(8, 9)))
    make_tar(tmp_path / "x" / "._2.tar", {"b.png": b""})
    found = find_pictures(tmp_path)
    assert [entry.name for entry in found] == ["x/1.png", "x/2.tar/b.png", "x/2.tar/a/c.png", "x/3.png"]
    np.testing.assert_array_equal(load_pictures(found, 8)[2].pixels, noise(8, 9, 3))
    (tmp_path / "x" / "broken.tar").write_bytes(b"no tar")
    with pytest.raises(DataError, match="broken.tar: not a folder"):
        find_pictures(tmp_path)


def test_missing_empty_and_foreign_roots_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        find_pictures(tmp_path / "missing")
    with pytest.raises(DataError, match="holds no picture"):
        find_pictures(tmp_path)
    with pytest.raises(DataError, match="holds no picture"):
        find_pictures(make_tar(tmp_path / "t.tar", {"README": b"?"}))
    (tmp_path / "broken.tar").write_bytes(b"this is no tar file" * 100)
    with pytest.raises(DataError, match=r"broken\.tar: not a folder"):
        find_pictures(tmp_path / "broken.tar")


def test_bad_pictures_are_all_counted_and_the_first_named(tmp_path: Path) -> None:
    good = png(noise(40, 40))
    members = {"good.png": good, "half.png": good[: len(good) // 2], "small.png": png(noise(31, 64))}
    members |= {f"text{i}.jpg": b"no picture at all" for i in range(5)}
    with pytest.raises(DataError) as caught:
        load_pictures(find_pictures(make_tar(tmp_path / "t.tar", members)), 32)
    message = str(caught.value)
    assert message.startswith("7 of 8 pictures cannot be used")
    assert "half.png" in message
    assert "small.png: 64 x 31 px, at least 32 x 32 needed" in message
    assert message.endswith("and 2 more")
    assert "\n" not in message
    assert "good.png" not in message
