"""The bicubics that make low-resolution pictures: MATLAB's, of training and benchmarks; Pillow's, of some."""

from collections.abc import Callable
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from esc_sr.errors import UsageError

Edge = Literal["mirror", "replicate"]
Image = TypeVar("Image", np.ndarray, Tensor)
Taps = tuple[np.ndarray, np.ndarray]
Reduce = Callable[[np.ndarray, tuple[int, int]], np.ndarray]
"""A picture (H, W, 3) uint8 and a height and width to the picture in that size."""


def resize(image: Image, size: tuple[int, int], edge: Edge = "mirror") -> Image:
    """Resize a picture as MATLAB's `imresize` does: cubic, a = -0.5, widened by the factor when reducing.

    Each axis has its own factor, output side / input side; the vertical pass comes first. A numpy picture is
    rounded (half up) and clipped to its type after each pass, as MATLAB does with 8-bit pictures; a tensor is
    neither rounded nor clipped, and the result is differentiable.

    Args:
        image: uint8 or uint16 array (H, W) or (H, W, C), or floating tensor (..., H, W) of any range.
        size: Height and width of the result in pixels, each at least 1.
        edge: What lies outside the picture: "mirror" (the edge pixel repeated once, MATLAB and Set5) or
            "replicate" (the edge pixel repeated outwards, the Set14 files in circulation).

    Returns:
        The same kind, dtype and device, with the new height and width.

    Raises:
        UsageError: The kind of picture, the size or the edge is none of the above.
    """
    if edge not in ("mirror", "replicate"):
        raise UsageError(f"edge is {edge!r}; choose 'mirror' or 'replicate'")
    if len(size) != 2 or any(side != int(side) for side in size):
        raise UsageError(f"cannot resize to {size}; give height and width in whole pixels")
    if min(size) < 1:
        raise UsageError(f"cannot resize to {size[0]} x {size[1]} pixels; each side must be at least 1")
    if isinstance(image, Tensor):
        return _resize_tensor(image, size, edge)
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or 0 in image.shape:
        raise UsageError(
            f"cannot resize a {image.dtype} array of shape {image.shape}; "
            "pass uint8 or uint16 (H, W) or (H, W, C), or a floating torch tensor (..., H, W)"
        )
    rows, columns = (_taps(*sides, edge) for sides in zip(image.shape, size, strict=False))
    return _weigh(image, rows, columns)


def pillow_bicubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (H, W, 3) uint8 as Pillow does, which differs from `resize` at the edges and in rounding."""
    import PIL.Image

    width_first = size[::-1]
    return np.array(PIL.Image.fromarray(image).resize(width_first, PIL.Image.Resampling.BICUBIC))


BICUBICS: dict[str, Reduce] = {"matlab": resize, "pillow": pillow_bicubic}
"""By whose they are."""


def downscale(image: np.ndarray, scale: float, edge: Edge = "mirror") -> np.ndarray:
    """Make the low-resolution picture of a pair: crop to what it enlarges to, then reduce.

    A whole scale crops to a multiple of it; any other one to the nearest pixel, as LTE's benchmarks do.

    Args:
        image: uint8 or uint16 (H, W) or (H, W, C); cropped at the bottom and right, by less than `scale`.
        scale: Factor, at least 1 and at most the shorter side.
        edge: As in `resize`.

    Returns:
        The same dtype, (h, w) or (h, w, C), with h = floor(H / scale) and w = floor(W / scale).

    Raises:
        UsageError: The scale is out of range, or `resize` refuses the picture.
    """
    height, width = image.shape[:2]
    if not 1 <= scale <= min(height, width):
        raise UsageError(f"cannot reduce {height} x {width} pixels by {scale}; use 1 to {min(height, width)}")
    size = reduced((height, width), scale)
    height, width = enlarged(size, scale)
    return resize(image[:height, :width], size, edge)


def downscale_part(
    read: Callable[[int, int, int, int], np.ndarray],
    size: tuple[int, int],
    scale: float,
    part: tuple[int, int, int, int],
) -> np.ndarray:
    """Make a part of what `downscale` makes of a whole picture, equal to the last bit, from what it takes.

    The kernel reaches 2 `scale` px beyond the part; what is read ends there, and at the picture's edge.

    Args:
        read: Gives the region (top, left, height, width), px, of a picture, uint8 or uint16 (H, W) or
            (H, W, C).
        size: Height and width of that picture.
        scale: As in `downscale`.
        part: Top, left, height and width of what is wanted, in px of the reduced picture; inside it.

    Returns:
        The same dtype, (height, width) or (height, width, C).
    """
    lr = reduced(size, scale)
    (top, rows), (left, columns) = (
        _cut_taps(_taps(side, count, "mirror"), first, length)
        for side, count, first, length in zip(enlarged(lr, scale), lr, part[:2], part[2:], strict=True)
    )
    region = read(top, left, int(rows[0].max()) + 1, int(columns[0].max()) + 1)
    return _weigh(region, rows, columns)


def reduced(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width that `downscale` reduces a picture of some height and width to, px."""
    return int(size[0] / scale + 1e-9), int(size[1] / scale + 1e-9)


def enlarged(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width that a picture of some height and width is enlarged to, px."""
    return round(size[0] * scale), round(size[1] * scale)


def _weigh(image: np.ndarray, rows: Taps, columns: Taps) -> np.ndarray:
    """(H, W, ...) integers -> what the taps make of its rows and then of its columns."""
    return np.ascontiguousarray(
        _weigh_rows(_weigh_rows(image, *rows).swapaxes(0, 1), *columns).swapaxes(0, 1)
    )


def _weigh_rows(image: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(H, ...) integers -> (len(index), ...), summed in float64 and rounded half up."""
    flat = np.ascontiguousarray(image).reshape(image.shape[0], -1)
    result = np.empty((len(index), flat.shape[1]), image.dtype)
    top = np.iinfo(image.dtype).max
    for row in range(len(index)):  # one output row at a time: little memory, and the row stays in the cache
        total = (weight[row, :, None] * flat[index[row]]).sum(axis=0)
        result[row] = np.clip(np.floor(total + 0.5), 0, top)
    return result.reshape(len(index), *image.shape[1:])


def _resize_tensor(image: Tensor, size: tuple[int, int], edge: Edge) -> Tensor:
    """(..., H, W) -> (..., *size) without rounding."""
    if not image.is_floating_point() or image.ndim < 2 or 0 in image.shape[-2:]:
        raise UsageError(
            f"cannot resize a {image.dtype} tensor of shape {tuple(image.shape)}; "
            "pass a floating tensor (..., H, W), or a uint8 numpy array"
        )
    for side in size:  # vertical, then horizontal: each pass works on rows and transposes
        index, weight = _taps(image.shape[-2], side, edge)
        taps = torch.from_numpy(index.T).to(image.device)
        weights = torch.from_numpy(weight.T).to(image)
        result = weights[0, :, None] * image.index_select(-2, taps[0])
        for tap, scalar in zip(taps[1:], weights[1:], strict=True):
            result = result + scalar[:, None] * image.index_select(-2, tap)
        image = result.transpose(-2, -1)
    return image.contiguous()


def _cut_taps(taps: Taps, first: int, count: int) -> tuple[int, Taps]:
    """The first input of some outputs, and their taps, counted from there."""
    index, weight = (part[first : first + count] for part in taps)
    start = int(index.min())
    return start, (index - start, weight)


def _taps(size_in: int, size_out: int, edge: Edge) -> Taps:
    """Which inputs make each output, and how much: indices and float64 weights, both (size_out, taps)."""
    scale = size_out / size_in
    shrink = min(scale, 1.0)
    center = (np.arange(size_out) + 0.5) / scale - 0.5
    first = np.floor(center - 2 / shrink).astype(np.int64)
    index = first[:, None] + np.arange(int(np.ceil(4 / shrink)) + 2)
    weight = _cubic((center[:, None] - index) * shrink)
    used = weight.any(axis=0)
    index, weight = index[:, used], weight[:, used]
    weight /= weight.sum(axis=1, keepdims=True)
    if edge == "replicate":
        return index.clip(0, size_in - 1), weight
    index %= 2 * size_in
    return np.minimum(index, 2 * size_in - 1 - index), weight


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5, zero beyond 2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
