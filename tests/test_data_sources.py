"""Pictures in memory or in files give the same crops, and LR made of a part is that of the whole."""

from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import pyvips
import torch
from numpy.typing import NDArray

from esc_sr.bicubic import downscale
from esc_sr.data.crops import Crops, batches
from esc_sr.data.pairs import cut_pair
from esc_sr.data.pictures import Decoded, Source, find_pictures
from esc_sr.data.sources import Held, Reduced, Stored, bytes_of, hold, match, measure, measure_pairs
from esc_sr.errors import DataError, ImageError
from esc_sr.image import Picture, write_image

FORMATS = ["png", "jpg", "webp", "avif", "tif", "tiled.tif", "gif"]


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def write(path: Path, pixels: NDArray[np.uint8], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyvips.Image.new_from_array(pixels).write_to_file(str(path), **options)
    return path


def stored(folder: Path) -> list[Stored]:
    return measure(find_pictures(folder), 1)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for number, kind in enumerate(FORMATS):
        how = {"tile": True, "tile_width": 16, "tile_height": 16} if kind == "tiled.tif" else {}
        how |= {"effort": 0} if kind == "avif" else {}
        write(folder / f"{number}.{kind}", noise(70 + number, 90, seed=number), **how)
    return folder


def test_a_part_read_from_a_file_is_that_of_the_whole(pictures: Path) -> None:
    for source in stored(pictures):
        whole = source.read()
        assert source.size == whole.shape[:2]
        for box in ((0, 0, 5, 90), (41, 3, 20, 7), (source.size[0] - 1, 89, 1, 1)):
            top, left, height, width = box
            np.testing.assert_array_equal(
                source.crop(*box), whole[top : top + height, left : left + width], source.name
            )


def test_turned_grey_deep_and_transparent_pictures_too(tmp_path: Path) -> None:
    grey = noise(30, 40, 1)
    write(tmp_path / "grey.png", grey)
    write(tmp_path / "alpha.png", noise(30, 40, 4))
    write_image(Picture(grey.astype(np.uint16) * 256 + 200), tmp_path / "deep.png")
    turned = pyvips.Image.new_from_array(noise(30, 40)).copy()
    turned.set_type(pyvips.GValue.gint_type, "orientation", 6)
    turned.write_to_file(str(tmp_path / "turned.jpg"))
    found = {source.name: source for source in stored(tmp_path)}
    assert {name: source.size for name, source in found.items()} == {
        "grey.png": (30, 40), "alpha.png": (30, 40), "deep.png": (30, 40), "turned.jpg": (40, 30)
    }  # fmt: skip
    for source in found.values():
        np.testing.assert_array_equal(source.crop(5, 6, 20, 10), source.read()[5:25, 6:16], source.name)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lr_of_a_part_is_the_part_of_lr(scale: int) -> None:
    rng = np.random.default_rng(scale)
    for size in ((50, 71), (23, 12), (4, 90)):
        picture = Decoded("a", noise(*size, seed=scale))
        low, whole = Reduced(picture, scale), downscale(picture.pixels, scale)
        assert low.size == whole.shape[:2]
        np.testing.assert_array_equal(low.read(), whole)
        for _ in range(20):
            height, width = (int(rng.integers(1, side + 1)) for side in low.size)
            top, left = (
                int(rng.integers(side - part + 1))
                for side, part in zip(low.size, (height, width), strict=True)
            )
            np.testing.assert_array_equal(
                low.crop(top, left, height, width), whole[top : top + height, left : left + width]
            )


def test_what_is_read_for_lr_ends_where_the_kernel_does() -> None:
    asked = []

    class Spy(Decoded):
        def crop(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
            asked.append((top, left, height, width))
            return super().crop(top, left, height, width)

    Reduced(Spy("a", noise(400, 400)), 4).crop(50, 0, 10, 10)
    ((top, left, height, width),) = asked
    assert 190 <= top < 200 and left == 0
    assert 40 + 2 * 6 <= height <= 40 + 2 * 8 and 40 + 6 <= width <= 40 + 8


def test_memory_is_filled_from_the_first_picture_on(pictures: Path) -> None:
    files = stored(pictures)
    two = bytes_of(files[0]) + bytes_of(files[1])
    counts = []
    held = hold(files, two, lambda done, total: counts.append((done, total)))
    assert [isinstance(source, Held) for source in held] == [True] * 2 + [False] * 5
    assert counts == [(1, 2), (2, 2)]
    assert [source.name for source in held] == [source.name for source in files]
    for mine, file in zip(hold(files, 10**9), files, strict=True):
        assert isinstance(mine, Held)
        np.testing.assert_array_equal(mine.read(), file.read())
        np.testing.assert_array_equal(mine.crop(3, 4, 5, 6), file.read()[3:8, 4:10])
    assert hold(files, two - 1)[1] is files[1]
    assert hold([], 100) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_do_not_depend_on_where_the_pictures_are(pictures: Path, workers: int) -> None:
    files = stored(pictures)

    def take(limit: int) -> list[tuple[torch.Tensor, ...]]:
        pairs: list[tuple[Source, Source]] = [(Reduced(hr, 3), hr) for hr in hold(files, limit)]
        cut = partial(cut_pair, scale=3, patch=8)
        return list(islice(batches(Crops(pairs, cut, 1), 6, workers=workers), 3))

    torch.testing.assert_close(take(0), take(10**9), rtol=0, atol=0)


def test_lr_is_found_by_its_names(tmp_path: Path) -> None:
    for name in ("0001", "sub/0002", "0003", "0004"):
        write(tmp_path / "hr" / f"{name}.png", noise(21, 24))
    for name in ("0001x2", "sub/0002_x2", "0003", "0005x2"):
        write(tmp_path / "lr" / f"{name}.png", noise(10, 12))
    hr, lr = find_pictures(tmp_path / "hr"), find_pictures(tmp_path / "lr")
    pairs, lonely = match(hr, lr, 2)
    names = [(high.name, low.name) for high, low in pairs]
    assert names == [
        ("0001.png", "0001x2.png"),
        ("0003.png", "0003.png"),
        ("sub/0002.png", "sub/0002_x2.png"),
    ]
    assert lonely == ["0004.png has no LR", "0005x2.png in LR has no HR"]
    with pytest.raises(DataError, match="2 pictures without a partner at x2: 0004"):
        measure_pairs(hr, lr, 2, 1)
    (tmp_path / "hr" / "0004.png").unlink()
    (tmp_path / "lr" / "0005x2.png").unlink()
    hr, lr = find_pictures(tmp_path / "hr"), find_pictures(tmp_path / "lr")
    assert [(low.size, high.size) for low, high in measure_pairs(hr, lr, 2, 10)] == [((10, 12), (21, 24))] * 3
    with pytest.raises(DataError, match="at least 11 x 11"):
        measure_pairs(hr, lr, 2, 11)
    write(tmp_path / "lr" / "0003.png", noise(10, 13))
    with pytest.raises(DataError, match=r"1 of 3 pairs do not fit: 0003\.png is 24 x 21 .* makes 26 x 20"):
        measure_pairs(hr, lr, 2, 1)


def test_headers_are_checked_without_decoding(tmp_path: Path) -> None:
    good = write(tmp_path / "good.png", noise(40, 50)).read_bytes()
    (tmp_path / "half.png").write_bytes(good[: len(good) // 2])
    (half,) = (source for source in stored(tmp_path) if source.name == "half.png")
    assert half.size == (40, 50)
    with pytest.raises(ImageError, match=r"half\.png"):
        half.crop(35, 0, 5, 5)
    with pytest.raises(DataError, match=r"1 of 2 pictures .*half\.png"):
        hold(stored(tmp_path), 10**9)
    (tmp_path / "text.png").write_bytes(b"no picture")
    (tmp_path / "empty.png").touch()
    write(tmp_path / "small.png", noise(8, 50))
    with pytest.raises(DataError) as caught:
        measure(find_pictures(tmp_path), 9)
    message = str(caught.value)
    assert message.startswith("3 of 5 pictures cannot be used") and "\n" not in message
    assert all(name in message for name in ("text.png", "empty.png", "small.png: 50 x 8 px, at least 9 x 9"))
