"""JPEG in torch against a real encoder and decoder."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from esc_sr.data.jpeg import jpeg

QUALITIES = (10, 20, 30, 40, 50, 77, 95)
HARBOUR = Path(__file__).parents[1] / "examples" / "harbour.png"


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


def psnr(x: Tensor, y: Tensor) -> float:
    return -10 * float((x - y).square().mean().log10())


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """Detail and colour, sides odd and no multiples of 8."""
    return Image.open(HARBOUR).convert("RGB").crop((40, 30, 40 + 101, 30 + 83))


def both(image: Image.Image, quality: int) -> tuple[Tensor, Tensor]:
    """What `jpeg` and libjpeg make of a picture."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return jpeg(to_tensor(image), torch.tensor([float(quality)])), to_tensor(Image.open(file))


@pytest.mark.parametrize("quality", [10, 30, 50, 77, 95])
def test_the_result_is_that_of_libjpeg(picture: Image.Image, quality: int) -> None:
    ours, real = both(picture, quality)
    assert psnr(ours, real) > 47  # 46 with the chroma repeated, not smoothed
    assert (
        psnr(ours, real) > psnr(to_tensor(picture), real) + 5
    )  # closer to the real file than the picture is


@pytest.mark.parametrize("quality", QUALITIES)
def test_whole_pictures_are_as_near_as_the_docs_say(quality: int) -> None:
    assert 44.5 < psnr(*both(Image.open(HARBOUR).convert("RGB"), quality)) < 48.5


def test_set5_is_as_near_as_the_docs_say(data_dir: Path) -> None:
    pictures = [Image.open(path).convert("RGB") for path in sorted((data_dir / "Set5" / "HR").glob("*.png"))]
    found = [[psnr(*both(image, quality)) for image in pictures] for quality in QUALITIES]
    means = [sum(values) / len(values) for values in found]
    assert 44.3 < min(means) and max(means) < 48.5
    assert 38.9 < min(map(min, found)) < 39.1


def test_each_picture_has_its_own_quality(picture: Image.Image) -> None:
    x = to_tensor(picture).expand(2, -1, -1, -1)
    pair = jpeg(x, torch.tensor([20.0, 90.0]))
    for i, quality in enumerate((20.0, 90.0)):
        torch.testing.assert_close(pair[i : i + 1], jpeg(x[:1], torch.tensor([quality])))
    assert psnr(pair[0], x[0]) < psnr(pair[1], x[1]) - 3


@pytest.mark.parametrize("level", [0, 1, 77, 128, 200, 255])
@pytest.mark.parametrize("quality", [30.0, 62.5, 95.0])
def test_flat_grey_stays_flat_and_grey(level: int, quality: float) -> None:
    y = jpeg(torch.full((1, 3, 9, 17), level / 255), torch.tensor([quality])) * 255
    assert y.min() == y.max()
    assert abs(y.max().item() - level) <= 2  # the first coefficient is quantised as well


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (15, 34)])
def test_any_size_in_8_bits(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    y = jpeg(x, torch.tensor([40.0, 100.0]))
    assert y.shape == x.shape and y.dtype == torch.float32
    torch.testing.assert_close((y * 255).round() / 255, y, rtol=0, atol=0)
    assert 0 <= y.min() and y.max() <= 1
