"""The kinds of picture that are taken: files and their bytes, `Picture`s, arrays, tensors and PIL images."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esc_sr.bicubic import resize
from esc_sr.errors import UsageError
from esc_sr.image import Picture, decode_header, decode_image
from esc_sr.image.pillow import from_pillow, is_pillow, to_pillow
from esc_sr.machine.memory import enough_memory
from esc_sr.remote import shown
from esc_sr.upscaling import FractionDone
from esc_sr.upscaling.colours import upscale_picture
from esc_sr.upscaling.models import Way
from esc_sr.upscaling.places import bytes_in, header_in, place_of
from esc_sr.upscaling.work import limit_work

if TYPE_CHECKING:
    import PIL.Image

PictureFile = str | Path | bytes | BinaryIO
Levels = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
Image = TypeVar(
    "Image",
    Picture,
    NDArray[np.uint8],
    NDArray[np.uint16],
    NDArray[np.float32],
    NDArray[np.float64],
    Tensor,
    "PIL.Image.Image",
)
FindWay = Callable[[int, int], Way]
"""Takes height and width of a picture."""


def upscale_any(image: Any, find_way: FindWay, progress: FractionDone, allow_large: bool) -> Any:
    """Enlarge a picture of any kind, as `engine.upscale` says.

    Raises:
        UsageError: The image is none of these, or of another shape or type, or as `find_way` says.
        ImageError: The file cannot be read.
        WeightsError: The network gives values that are not finite.
        DeviceError: Neither memory nor disk suffices.
    """
    if isinstance(image, str | Path | bytes | bytearray | memoryview) or hasattr(image, "read"):
        with enough_memory(_name(image)):
            return _picture(_read(image, allow_large), find_way, progress).pixels
    with enough_memory():
        if isinstance(image, Picture):
            return _picture(image, find_way, progress)
        if isinstance(image, np.ndarray):
            return _array(image, find_way, progress)
        if isinstance(image, Tensor):
            return _tensor(image, find_way, progress)
        if is_pillow(image):
            return to_pillow(_array(from_pillow(image), find_way, progress), image)
    raise UsageError(
        f"cannot upscale a {type(image).__name__}; "
        "pass a path, bytes, a file, an array, a tensor or a PIL image"
    )


def _read(file: Any, allow_large: bool) -> Picture:
    """The picture in a file: its path, its bytes, or an object that gives them."""
    if isinstance(file, str | Path):
        place = place_of(file) if isinstance(file, str) else file
        name = str(place)
        if isinstance(place, Path) and not allow_large:
            limit_work(name, 1, *header_in(place).sides)
        data = bytes_in(place)
        if not isinstance(place, Path) and not allow_large:
            limit_work(name, 1, *decode_header(memoryview(data), name).sides)
        return decode_image(data, name, allow_large=allow_large)
    data = file.read() if hasattr(file, "read") else bytes(file)
    if not isinstance(data, bytes):
        raise UsageError(f"{_name(file)} gives text; open it in binary, with mode 'rb'")
    if not data:
        raise UsageError(
            f"{_name(file)}: nothing to read; has it been read before, and seek(0) not been called?"
        )
    if not allow_large:
        limit_work(_name(file), 1, *decode_header(memoryview(data), _name(file)).sides)
    return decode_image(data, _name(file), allow_large=allow_large)


def _name(file: Any) -> str:
    """What to call a file in errors."""
    if isinstance(file, str | Path):
        return shown(str(file))
    return str(getattr(file, "name", f"<{type(file).__name__}>"))


def _picture(picture: Picture, find_way: FindWay, progress: FractionDone) -> Picture:
    """(H, W, C) of uint8, uint16 or float32."""
    return upscale_picture(picture, find_way(*picture.pixels.shape[:2]), progress)


def _array(image: np.ndarray, find_way: FindWay, progress: FractionDone) -> np.ndarray:
    """(H, W) or (H, W, C); float64 passes through as float32."""
    pixels = image.astype(np.float32) if image.dtype == np.float64 else image
    grey = image.ndim == 2
    sr = _picture(Picture(pixels[:, :, None] if grey else pixels), find_way, progress).pixels
    return (sr[:, :, 0] if grey else sr).astype(image.dtype, copy=False)


def _tensor(image: Tensor, find_way: FindWay, progress: FractionDone) -> Tensor:
    """(3, H, W) or (B, 3, H, W), floating, RGB in 0..1."""
    shape = image.shape
    if not image.is_floating_point() or len(shape) not in (3, 4) or shape[-3] != 3 or 0 in shape:
        raise UsageError(
            f"cannot upscale a {image.dtype} tensor {tuple(shape)}; "
            "pass a floating one, (3, H, W) or (B, 3, H, W)"
        )
    way = find_way(*shape[-2:])
    lr = image.reshape(-1, *shape[-3:])
    sr = lr.new_empty(len(lr), 3, *way.given, requires_grad=False)

    def write(top: int, band: Tensor) -> None:
        sr[:, :, top : top + band.shape[2]] = band

    held = sum(t.numel() * t.element_size() for t in (lr, sr))
    way.runner.run(lr.detach().to(way.runner.device, torch.float32), way.given, held, write, progress)
    if way.size != way.given:
        sr = resize(sr, way.size).clamp_(0, 1)
    return sr[0] if len(shape) == 3 else sr
