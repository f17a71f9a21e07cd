"""The bicubic that makes training and benchmark pictures: exact against the published files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esc_sr.bicubic import Edge, downscale, resize
from esc_sr.errors import UsageError
from esc_sr.image import read_image

SCALES = [2, 3, 4]
EDGES: list[Edge] = ["mirror", "replicate"]


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def matrix(size_in: int, size_out: int, edge: Edge) -> np.ndarray:
    """The definition, one weight at a time: the kernel at each input's distance, edges folded in."""
    scale = size_out / size_in
    shrink = min(1.0, scale)
    weights = np.zeros((size_out, size_in))
    for row in range(size_out):
        center = (row + 0.5) / scale - 0.5
        reach = int(2 / shrink) + 2
        for position in range(int(center) - reach, int(center) + reach + 1):
            inside = position
            while not 0 <= inside < size_in:
                if edge == "replicate":
                    inside = min(max(inside, 0), size_in - 1)
                else:
                    inside = -1 - inside if inside < 0 else 2 * size_in - 1 - inside
            weights[row, inside] += cubic((center - position) * shrink)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("scale", SCALES)
def test_set5_low_resolution_files_are_reproduced_exactly(data_dir: Path, scale: int) -> None:
    files = sorted((data_dir / "Set5" / "HR").glob("*.png"))
    assert len(files) == 5
    for file in files:
        lr = read_image(data_dir / f"Set5/LR_bicubic/X{scale}/{file.stem}x{scale}.png").pixels
        np.testing.assert_array_equal(downscale(read_image(file).pixels, scale), lr, err_msg=file.name)


@pytest.mark.parametrize("scale", SCALES)
def test_set14_low_resolution_files_are_reproduced_exactly(data_dir: Path, scale: int) -> None:
    files = sorted((data_dir / f"Set14/X{scale}/HR").glob("*.png"))
    assert len(files) == 14
    for file in files:
        lr = read_image(data_dir / f"Set14/X{scale}/LR/{file.name}").pixels
        ours = downscale(read_image(file).pixels, scale, edge="replicate")
        np.testing.assert_array_equal(ours, lr, err_msg=file.name)


@given(
    size_in=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    size_out=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    edge=st.sampled_from(EDGES),
)
@settings(max_examples=60, deadline=None)
def test_tensors_follow_the_definition(
    size_in: tuple[int, int], size_out: tuple[int, int], edge: Edge
) -> None:
    image = torch.from_numpy(np.random.default_rng(1).random((2, *size_in)))
    vertical = matrix(size_in[0], size_out[0], edge)
    horizontal = matrix(size_in[1], size_out[1], edge)
    expected = vertical @ image.numpy() @ horizontal.T
    np.testing.assert_allclose(resize(image, size_out, edge).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("size", [(9, 40), (50, 11), (21, 33)])
def test_integers_are_rounded_half_up_and_clipped_after_each_pass(size: tuple[int, int], edge: Edge) -> None:
    image = noise(21, 33) // 128 * 255  # black and white: overshoots
    columns = np.clip(np.floor(matrix(21, size[0], edge) @ image + 0.5), 0, 255)
    expected = np.clip(np.floor(columns @ matrix(33, size[1], edge).T + 0.5), 0, 255)
    difference = resize(image, size, edge) - expected
    assert np.abs(difference).max() <= 1  # this sum runs in another order and may differ on a tie
    assert (difference != 0).mean() < 0.01


def test_a_tie_rounds_up() -> None:
    np.testing.assert_array_equal(resize(np.array([[0, 1]], np.uint8), (1, 1)), [[1]])


@pytest.mark.parametrize("edge", EDGES)
def test_the_same_size_is_the_same_picture(edge: Edge) -> None:
    image = noise(7, 5, 3)
    np.testing.assert_array_equal(resize(image, (7, 5), edge), image)


@pytest.mark.parametrize("size", [(3, 50), (64, 2), (1, 1)])
def test_a_flat_picture_stays_flat(size: tuple[int, int]) -> None:
    for dtype, value in ((np.uint8, 255), (np.uint16, 65535), (np.uint16, 3)):
        image = np.full((17, 19, 2), value, dtype)
        result = resize(image, size)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, np.full((*size, 2), value))


def test_edges_differ_only_near_the_border() -> None:
    image = noise(40, 40)
    differs = downscale(image, 2, "mirror") != downscale(image, 2, "replicate")
    assert differs.any()
    assert not differs[2:-2, 2:-2].any()


def test_downscale_crops_at_the_bottom_and_right() -> None:
    image = noise(23, 32, 3)
    np.testing.assert_array_equal(downscale(image, 3), resize(image[:21, :30], (7, 10)))


def test_channels_and_layouts_do_not_matter() -> None:
    image = noise(20, 30, 3)
    expected = resize(image, (13, 50))
    for channel in range(3):
        np.testing.assert_array_equal(resize(image[..., channel], (13, 50)), expected[..., channel])
    turned = np.ascontiguousarray(image.transpose(2, 1, 0)).transpose(2, 1, 0)
    np.testing.assert_array_equal(resize(turned, (13, 50)), expected)
    assert expected.flags.c_contiguous


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tensors_keep_dtype_and_batch(dtype: torch.dtype) -> None:
    image = torch.rand(2, 3, 12, 10, dtype=torch.float64)
    result = resize(image.to(dtype), (24, 5))
    assert result.shape == (2, 3, 24, 5)
    assert result.dtype == dtype
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-12, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(result.double(), resize(image, (24, 5)), atol=tolerance, rtol=0)


def test_tensors_are_differentiable() -> None:
    image = torch.rand(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resize(x, (3, 9)), image)


def test_the_input_is_not_modified() -> None:
    image, tensor = noise(8, 8, 3), torch.rand(3, 8, 8)
    copies = image.copy(), tensor.clone()
    resize(image, (4, 12))
    resize(tensor, (4, 12))
    np.testing.assert_array_equal(image, copies[0])
    assert torch.equal(tensor, copies[1])


@pytest.mark.parametrize(
    "image",
    [
        noise(4, 4).astype(np.float32),
        noise(4),
        noise(1, 4, 4, 3),
        noise(0, 4),
        torch.zeros(4, 4, dtype=torch.uint8),
        torch.zeros(4),
        torch.zeros(3, 0, 4),
    ],
)
def test_other_pictures_are_refused(image: np.ndarray) -> None:
    with pytest.raises(UsageError, match="cannot resize a .* shape"):
        resize(image, (2, 2))


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        resize(noise(4, 4), (0, 4))
    with pytest.raises(UsageError, match="'mirror' or 'replicate'"):
        resize(noise(4, 4), (2, 2), "wrap")  # type: ignore[arg-type]
    for scale in (0, 5):
        with pytest.raises(UsageError, match="use 1 to 4"):
            downscale(noise(4, 6), scale)


@pytest.mark.parametrize("size", [(2.5, 2), (2,), (2, 2, 2)])
def test_sizes_that_are_none_are_refused(size: Any) -> None:
    with pytest.raises(UsageError, match="height and width in whole pixels"):
        resize(np.zeros((4, 4, 3), np.uint8), size)
    with pytest.raises(UsageError, match="height and width in whole pixels"):
        resize(torch.zeros(3, 4, 4), size)
