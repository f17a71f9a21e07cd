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

from esc_sr.errors import UsageError, WeightsError
from esc_sr.image import Picture, fill_transparent, keep_flat, read_image
from esc_sr.network import ESCLTE
from esc_sr.upscale import DEFAULT_MODEL, DEFAULT_SCALE
from esc_sr.upscale.device import pick_device
from esc_sr.upscale.floats import enlarge_floats
from esc_sr.upscale.memory import enough_memory
from esc_sr.weights import load

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

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
) -> NDArray[np.uint8] | NDArray[np.uint16]: ...
@overload
def upscale(
    image: Image,
    model: str | Path | nn.Module = ...,
    scale: int | None = ...,
    device: str = ...,
    precision: str = ...,
    self_ensemble: bool = ...,
) -> Image: ...
def upscale(
    image: str | Path | Picture | NDArray[np.uint8] | NDArray[np.uint16] | Tensor,
    model: str | Path | nn.Module = DEFAULT_MODEL,
    scale: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    self_ensemble: bool = False,
) -> Picture | NDArray[np.uint8] | NDArray[np.uint16] | Tensor:
    """Upscale one picture.

    Args:
        image: A picture file; a `Picture`; an array (H, W) or (H, W, C) of uint8 or uint16 with C = 1 grey,
            2 grey + alpha, 3 RGB, 4 RGB + alpha; or a floating tensor (3, H, W) or (B, 3, H, W), RGB in 0..1.
        model: A bundled name, a checkpoint file, or a network (B, 3, H, W) -> (B, 3, scale H, scale W).
        scale: Whole factor; None takes that of the model, and 2 where the model has several.
        device: "auto", "cpu", "cuda", "cuda:1", "xpu" or "mps"; "auto" leaves a network where it is.
        precision: One of `PRECISIONS`, that of the arithmetic inside the network.
        self_ensemble: Mean over the eight flips and rotations: a little better, eight times as long.

    Returns:
        The same kind, type and layout, scale times as high and wide; for a file, an array (H, W, C).

    Raises:
        UsageError: An argument is none of the above, or the model has another scale.
        ImageError: The file cannot be read.
        WeightsError: There is no such model, or its file is damaged.
        DeviceError: The device is missing or too small.
    """
    upscaler = Upscaler(model, scale, device, precision, self_ensemble)
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
        notify: Callable[[str], object] = warnings.warn,
    ) -> None:
        """Load the network; the arguments are those of `upscale`, and one more.

        Args:
            model: As there.
            scale: As there.
            device: As there.
            precision: As there.
            self_ensemble: As there.
            notify: Is told, once, when the precision did not suffice.

        Raises:
            UsageError: No such precision or device, or the model has another scale.
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
        self._dtype = parameter.dtype
        self._self_ensemble = self_ensemble
        self._notify: Callable[[str], object] | None = notify

    @overload
    def upscale(self, image: Picture) -> Picture: ...
    @overload
    def upscale(self, image: Tensor) -> Tensor: ...
    @overload
    def upscale(self, image: NDArray[Level]) -> NDArray[Level]: ...
    def upscale(self, image: Picture | Tensor | NDArray[Level]) -> Picture | Tensor | NDArray[Level]:
        """Upscale a `Picture`, an array or a tensor, as `upscale` says.

        Raises:
            UsageError: The image is none of these, or of another shape or type.
            WeightsError: The network gives values that are not finite.
        """
        if isinstance(image, Picture):
            return self._picture(image)
        if isinstance(image, np.ndarray):
            grey = image.ndim == 2
            pixels = self._picture(Picture(image[:, :, None] if grey else image)).pixels
            return pixels[:, :, 0] if grey else pixels
        if not isinstance(image, Tensor):
            raise UsageError(f"cannot upscale a {type(image).__name__}; pass a path, an array or a tensor")
        shape = image.shape
        if not image.is_floating_point() or len(shape) not in (3, 4) or shape[-3] != 3 or 0 in shape:
            raise UsageError(
                f"cannot upscale a {image.dtype} tensor {tuple(shape)}; "
                "pass a floating one, (3, H, W) or (B, 3, H, W)"
            )
        sr = self._enlarge(image.reshape(-1, *shape[-3:]).to(self.device, torch.float32))
        sr = sr.to(image.device, image.dtype).clone()  # out of inference mode, so that it may be trained on
        return sr[0] if len(shape) == 3 else sr

    def _picture(self, picture: Picture) -> Picture:
        """Colour and alpha apart; a constant alpha stays that constant, another one hides no colours."""
        pixels = picture.pixels
        height, width, channels = pixels.shape
        colours = 3 if channels >= 3 else 1
        alpha = pixels[:, :, colours:]
        varies = bool((alpha != alpha[0, 0]).any())
        enlarge = self._floats if pixels.dtype == np.float32 else self._channels
        out = np.empty((height * self.scale, width * self.scale, channels), pixels.dtype)
        out[:, :, :colours] = enlarge(fill_transparent(pixels) if varies else pixels[:, :, :colours])
        if alpha.size:
            out[:, :, colours:] = keep_flat(alpha, enlarge(alpha)) if varies else alpha[0, 0]
        return replace(picture, pixels=out)

    def _floats(self, pixels: np.ndarray) -> np.ndarray:
        """Enlarge (H, W, 3 or 1) float32 as `_channels` does, unrounded and unclipped."""
        return enlarge_floats(pixels, self.upscale, torch.tensor(_LUMA))

    def _channels(self, pixels: np.ndarray) -> np.ndarray:
        """Enlarge (H, W, 3) RGB or (H, W, 1) grey, to whole numbers in float32, rounded half to even.

        Grey goes through the network as three equal channels and comes back as their luma.
        """
        peak = float(np.iinfo(pixels.dtype).max)
        planes = np.moveaxis(pixels, 2, 0).astype(np.float32, order="C")  # (C, H, W)
        lr = torch.from_numpy(planes).to(self.device).div_(peak)
        sr = self._enlarge(lr.expand(1, 3, -1, -1))[0]
        if len(planes) == 1:
            sr = torch.tensordot(sr.new_tensor(_LUMA), sr, dims=1)[None]
        levels: np.ndarray = sr.mul(peak).round().permute(1, 2, 0).cpu().numpy()
        return levels

    def _enlarge(self, lr: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1 to (B, 3, scale H, scale W), float32, clamped to 0..1."""
        with torch.inference_mode():
            if not self._self_ensemble:
                return self._finite(lr).clamp(0, 1)
            views = (self._turned(lr, turns, mirrored) for turns in range(4) for mirrored in (False, True))
            return (sum(views, start=torch.zeros((), device=self.device)) / 8).clamp(0, 1)

    def _turned(self, lr: Tensor, turns: int, mirrored: bool) -> Tensor:
        """Run the network on a flipped and rotated picture, and turn the result back."""
        view = torch.rot90(lr.flip(-1) if mirrored else lr, turns, (-2, -1))
        sr = torch.rot90(self._finite(view), -turns, (-2, -1))
        return sr.flip(-1) if mirrored else sr

    def _finite(self, lr: Tensor) -> Tensor:
        """Run the network; where half precision overflows, again without it."""
        sr = self._forward(lr, PRECISIONS[self.precision])
        if not sr.isfinite().all() and self.precision != "fp32":
            if self._notify is not None:
                self._notify(f"{self.precision} overflowed in the network; done again in fp32")
                self._notify = None
            sr = self._forward(lr, torch.float32)
        if not sr.isfinite().all():
            raise WeightsError(
                "the network gives NaN or infinite values; its weights, or the input, are damaged"
            )
        return sr

    def _forward(self, lr: Tensor, dtype: torch.dtype) -> Tensor:
        """One call of the network, in float32 from end to end but for the layers that autocast chooses."""
        lr = lr.to(self._dtype)
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            if isinstance(self.model, ESCLTE):
                height, width = lr.shape[-2:]
                sr: Tensor = self.model(lr, (height * self.scale, width * self.scale))
            else:
                sr = self.model(lr)
        return sr.float()


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
