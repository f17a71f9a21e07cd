"""Pictures, arrays and tensors through a network."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esc_sr.errors import UsageError
from esc_sr.image import Picture, fill_transparent, keep_flat, read_image
from esc_sr.network import ESCLTE
from esc_sr.upscale import DEFAULT_MODEL, DEFAULT_SCALE, Progress, unheard
from esc_sr.upscale.device import pick_device
from esc_sr.upscale.memory import enough_memory, parse_memory
from esc_sr.upscale.plan import MemoryPlan
from esc_sr.upscale.runner import PRECISIONS, Runner
from esc_sr.weights import load

_LUMA = (0.299, 0.587, 0.114)  # BT.601: how the three channels become grey again
Level = TypeVar("Level", np.uint8, np.uint16)
Image = TypeVar("Image", Picture, NDArray[np.uint8], NDArray[np.uint16], Tensor)


@overload
def upscale(
    image: str | Path,
    model: str | Path | nn.Module = ...,
    scale: int | None = ...,
    device: str = ...,
    precision: str = ...,
    self_ensemble: bool = ...,
    max_memory: str | int | None = ...,
) -> NDArray[np.uint8] | NDArray[np.uint16]: ...
@overload
def upscale(
    image: Image,
    model: str | Path | nn.Module = ...,
    scale: int | None = ...,
    device: str = ...,
    precision: str = ...,
    self_ensemble: bool = ...,
    max_memory: str | int | None = ...,
) -> Image: ...
def upscale(
    image: str | Path | Picture | NDArray[np.uint8] | NDArray[np.uint16] | Tensor,
    model: str | Path | nn.Module = DEFAULT_MODEL,
    scale: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    self_ensemble: bool = False,
    max_memory: str | int | None = None,
) -> Picture | NDArray[np.uint8] | NDArray[np.uint16] | Tensor:
    """Upscale one picture.

    Args:
        image: A picture file; a `Picture`; an array (H, W) or (H, W, C) of uint8, uint16 or float32 in 0..1,
            with C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha; or a floating tensor (3, H, W) or
            (B, 3, H, W), RGB in 0..1.
        model: A bundled name, a checkpoint file, or a network (B, 3, H, W) -> (B, 3, scale H, scale W).
        scale: Whole factor; None takes that of the model, and 2 where the model has several.
        device: "auto", "cpu", "cuda", "cuda:1", "xpu" or "mps"; "auto" leaves a network where it is.
        precision: One of `PRECISIONS`, that of the arithmetic inside the network.
        self_ensemble: Mean over the eight flips and rotations: a little better, eight times as long.
        max_memory: What a picture may take of the device's memory: bytes, or text such as "4GiB"; None is a
            safe part of what is free. It changes how the work is cut, and nothing in the result.

    Returns:
        The same kind, type and layout, scale times as high and wide; for a file, an array (H, W, C).

    Raises:
        UsageError: An argument is none of the above, or the model has another scale.
        ImageError: The file cannot be read.
        WeightsError: There is no such model, or its file is damaged.
        DeviceError: The device is missing or too small.
    """
    upscaler = Upscaler(model, scale, device, precision, self_ensemble, max_memory)
    if isinstance(image, str | Path):
        with enough_memory(str(image)):
            return upscaler.upscale(read_image(image)).pixels
    with enough_memory("the picture"):
        return upscaler.upscale(image)


class Upscaler:
    """A network, and how it is used.

    Attributes:
        model: The network.
        scale: How many times higher and wider a picture becomes.
        device: Where the network runs.
        precision: One of `PRECISIONS`.
    """

    def __init__(
        self,
        model: str | Path | nn.Module = DEFAULT_MODEL,
        scale: int | None = None,
        device: str = "auto",
        precision: str = "fp32",
        self_ensemble: bool = False,
        max_memory: str | int | None = None,
        notify: Callable[[str], object] = warnings.warn,
        report: Callable[[str], object] | None = None,
    ) -> None:
        """Load the network; the arguments are those of `upscale`, and two more.

        Args:
            model: As there.
            scale: As there.
            device: As there.
            precision: As there.
            self_ensemble: As there.
            max_memory: As there.
            notify: Is told, once, when the precision did not suffice.
            report: Is told how a picture is worked through, whenever that changes, such as
                "2000 x 1500 in 47 bands of 32 rows, about 1.9 GiB of 15.0 GiB".

        Raises:
            UsageError: No such precision, device or amount, or the model has another scale.
            WeightsError: There is no such model, or its file is damaged.
            DeviceError: The device is missing.
        """
        if precision not in PRECISIONS:
            raise UsageError(f"no precision is called {precision!r}; use {', '.join(PRECISIONS)}")
        if scale is not None and scale not in range(1, 65):
            raise UsageError(f"scale {scale} is not a whole number from 1 to 64")
        if not isinstance(model, nn.Module):
            with enough_memory(str(model)):
                network: nn.Module = load(model, device=pick_device(device), scale=scale)
        else:
            network = model if device == "auto" else model.to(pick_device(device))
        parameter = next(network.parameters(), torch.empty(0))
        self.model = network
        self.scale = _scale_of(network, scale, model)
        self.device = parameter.device
        self.precision = precision
        self._notify: Callable[[str], object] | None = notify
        self._report = report
        self._reported = ""
        self._runner = Runner(
            network,
            self.scale,
            self.device,
            parameter.dtype,
            precision,
            self_ensemble,
            None if max_memory is None else parse_memory(max_memory),
            self._tell,
            self._tell_plan,
        )

    @overload
    def upscale(self, image: Picture, progress: Progress = ...) -> Picture: ...
    @overload
    def upscale(self, image: Tensor, progress: Progress = ...) -> Tensor: ...
    @overload
    def upscale(self, image: NDArray[Level], progress: Progress = ...) -> NDArray[Level]: ...
    def upscale(
        self, image: Picture | Tensor | NDArray[Level], progress: Progress = unheard
    ) -> Picture | Tensor | NDArray[Level]:
        """Upscale a `Picture`, an array or a tensor, as `upscale` says.

        Args:
            image: As there.
            progress: Is told, many times, how much of the image is done, from 0 to 1.

        Raises:
            UsageError: The image is none of these, or of another shape or type.
            WeightsError: The network gives values that are not finite.
        """
        if isinstance(image, Picture):
            return self._picture(image, progress)
        if isinstance(image, np.ndarray):
            grey = image.ndim == 2
            pixels = self._picture(Picture(image[:, :, None] if grey else image), progress).pixels
            return pixels[:, :, 0] if grey else pixels
        if not isinstance(image, Tensor):
            raise UsageError(f"cannot upscale a {type(image).__name__}; pass a path, an array or a tensor")
        shape = image.shape
        if not image.is_floating_point() or len(shape) not in (3, 4) or shape[-3] != 3 or 0 in shape:
            raise UsageError(
                f"cannot upscale a {image.dtype} tensor {tuple(shape)}; "
                "pass a floating one, (3, H, W) or (B, 3, H, W)"
            )
        lr = image.reshape(-1, *shape[-3:])
        sr = lr.new_empty(len(lr), 3, shape[-2] * self.scale, shape[-1] * self.scale, requires_grad=False)

        def write(top: int, band: Tensor) -> None:
            sr[:, :, top : top + band.shape[2]] = band

        held = sum(t.numel() * t.element_size() for t in (lr, sr))
        self._runner.run(lr.detach().to(self.device, torch.float32), held, write, progress)
        return sr[0] if len(shape) == 3 else sr

    def _picture(self, picture: Picture, progress: Progress) -> Picture:
        """Colour and alpha apart; a constant alpha stays that constant, another one hides no colours."""
        pixels = picture.pixels
        height, width, channels = pixels.shape
        colours = 3 if channels >= 3 else 1
        out = np.empty((height * self.scale, width * self.scale, channels), pixels.dtype)
        held = pixels.nbytes + out.nbytes
        alpha, shown = pixels[:, :, colours:], out[:, :, colours:]
        varies = bool((alpha != alpha[0, 0]).any())
        seen = fill_transparent(pixels) if varies else pixels[:, :, :colours]
        colours_done = (lambda done: progress(done / 2)) if varies else progress
        self._channels(seen, out[:, :, :colours], held, colours_done)
        if varies:
            self._channels(alpha, shown, held, lambda done: progress((1 + done) / 2))
            shown[:] = keep_flat(alpha, shown)
        else:
            shown[:] = alpha[0, 0]
        return replace(picture, pixels=out)

    def _channels(self, pixels: np.ndarray, out: np.ndarray, held: int, progress: Progress) -> None:
        """Enlarge (H, W, 3) RGB or (H, W, 1) grey into `out`, of the same type; integers half to even.

        Grey goes through the network as three equal channels and comes back as their luma. Floats outside
        0..1 widen the range that is mapped onto the network's 0..1, and back: none is clipped.
        """
        low, high = _range(pixels)
        planes = np.moveaxis(pixels, 2, 0).astype(np.float32, order="C")  # (C, H, W)
        lr = torch.from_numpy(planes).to(self.device).sub_(low).div_(high - low)
        whole = out.dtype != np.float32

        def write(top: int, band: Tensor) -> None:
            sr = band[0]  # (3, h, W)
            if len(planes) == 1:
                sr = torch.tensordot(sr.new_tensor(_LUMA), sr, dims=1)[None]
            values = sr.mul(high - low).add_(low)
            levels = (values.round() if whole else values).permute(1, 2, 0).cpu().numpy()
            out[top : top + len(levels)] = levels

        self._runner.run(lr.expand(1, 3, -1, -1), held, write, progress)

    def _tell(self, text: str) -> None:
        """Pass on the first notice."""
        if self._notify is not None:
            self._notify(text)
            self._notify = None

    def _tell_plan(self, plan: MemoryPlan) -> None:
        """Pass on a plan that differs from the last one."""
        if self._report is not None and str(plan) != self._reported:
            self._reported = str(plan)
            self._report(self._reported)


def _range(pixels: np.ndarray) -> tuple[float, float]:
    """What is black and white to the network: the type's full range, or 0..1 and whatever lies beyond."""
    if pixels.dtype != np.float32:
        return 0.0, float(np.iinfo(pixels.dtype).max)
    return min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))


def _scale_of(network: nn.Module, wanted: int | None, model: str | Path | nn.Module) -> int:
    """The scale that a network has, which must be the one asked for, if any."""
    name = type(model).__name__ if isinstance(model, nn.Module) else model
    if isinstance(network, ESCLTE):
        return wanted or DEFAULT_SCALE
    own = getattr(getattr(network, "config", None), "scale", wanted)
    if own is None:
        raise UsageError(f"{name} does not tell its scale; pass scale=")
    if wanted not in (None, own):
        raise UsageError(f"{name} enlarges x{own}, not x{wanted}; ask for scale {own}, or take another model")
    return int(own)
