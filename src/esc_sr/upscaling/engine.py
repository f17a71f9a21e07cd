"""Pictures, arrays and tensors through a network."""

import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esc_sr.bicubic import resize
from esc_sr.errors import UsageError
from esc_sr.image import Picture, fill_transparent, keep_flat, read_image
from esc_sr.machine.device import pick_device
from esc_sr.machine.memory import enough_memory, parse_memory
from esc_sr.machine.precision import check_precision
from esc_sr.network import ESC, ESCLTE
from esc_sr.upscaling import DEFAULT_MODEL, DEFAULT_SCALE, FractionDone
from esc_sr.upscaling.frame import FRAME
from esc_sr.upscaling.pillow import from_pillow, is_pillow, to_pillow
from esc_sr.upscaling.runner import Runner, Sides
from esc_sr.upscaling.sizes import Size, as_size
from esc_sr.weights import bundled_scales, load

if TYPE_CHECKING:
    import PIL.Image

_LUMA = (0.299, 0.587, 0.114)  # BT.601: how the three channels become grey again
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


@overload
def upscale(
    image: str | Path,
    model: str | Path | nn.Module = ...,
    scale: float | Size | None = ...,
    device: str = ...,
    precision: str = ...,
    self_ensemble: bool = ...,
    max_memory: str | int | None = ...,
) -> Levels: ...
@overload
def upscale(
    image: Image,
    model: str | Path | nn.Module = ...,
    scale: float | Size | None = ...,
    device: str = ...,
    precision: str = ...,
    self_ensemble: bool = ...,
    max_memory: str | int | None = ...,
) -> Image: ...
def upscale(
    image: Any,
    model: str | Path | nn.Module = DEFAULT_MODEL,
    scale: float | Size | None = None,
    device: str = "auto",
    precision: str = "fp32",
    self_ensemble: bool = False,
    max_memory: str | int | None = None,
) -> Any:
    """Upscale one picture.

    Args:
        image: A picture file; a `Picture`; an array (H, W) or (H, W, C) of uint8, uint16, or float32 or
            float64 in 0..1, with C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha; a floating tensor
            (3, H, W) or (B, 3, H, W), RGB in 0..1; or a PIL image, as `pillow.from_pillow` says.
        model: A bundled name, a checkpoint file, or a network (B, 3, H, W) -> (B, 3, scale H, scale W).
        scale: Any factor from 1 to 64, or a `Size`; None takes that of the model, and 2 where the model has
            several. An `ESCLTE` gives any size; another network gives its own scale, of a bundled name the
            next larger one, and the result is reduced by `esc_sr.resize`.
        device: "auto", "cpu", "cuda", "cuda:1", "xpu" or "mps"; "auto" leaves a network where it is.
        precision: "fp32", "bf16" or "fp16", that of the arithmetic inside the network.
        self_ensemble: Mean over the eight flips and rotations: a little better, eight times as long.
        max_memory: What a picture may take of the device's memory: bytes, or text such as "4GiB"; None is a
            safe part of what is free. It changes how the work is cut, and nothing in the result.

    Returns:
        The same kind, type and layout, scale times as high and wide; for a file, an array (H, W, C).

    Raises:
        UsageError: An argument is none of the above, or the size is more than the model gives.
        ImageError: The file cannot be read.
        WeightsError: There is no such model, or its file is damaged.
        DeviceError: The device is missing or too small.
    """
    return Upscaler(model, scale, device, precision, self_ensemble, max_memory).upscale(image)


class _Way(NamedTuple):
    """How a picture comes to its size: through which network, what that gives, and what is wished (px)."""

    runner: Runner
    given: Sides
    size: Sides


class Upscaler:
    """A network, or the networks of one name, and how they are used.

    It may be used again and again, and by several threads at once; `max_memory` is then for each of them.

    Attributes:
        size: What a picture becomes.
        device: Where the network runs.
        precision: As of `upscale`.
        self_ensemble: Whether the result is the mean over the eight flips and rotations.
    """

    def __init__(
        self,
        model: str | Path | nn.Module = DEFAULT_MODEL,
        scale: float | Size | None = None,
        device: str = "auto",
        precision: str = "fp32",
        self_ensemble: bool = False,
        max_memory: str | int | None = None,
        notify: Callable[[str], object] = warnings.warn,
        report: Callable[[str], object] | None = None,
        frame: int = FRAME,
    ) -> None:
        """Load the network; the arguments are those of `upscale`, and three more.

        Args:
            model: As there.
            scale: As there.
            device: As there.
            precision: As there.
            self_ensemble: As there.
            max_memory: As there.
            notify: Is told, once, when the precision did not suffice, and when a result is approximate.
            report: Is told how a picture is worked through, whenever that changes, such as
                "2000 x 1500 in 47 bands of 32 rows, about 1.9 GiB of 15.0 GiB" and
                "esc-light x3, then reduced to x2.5".
            frame: Mirrored pixels around a picture, which keep the zero padding of our networks out of it;
                multiples of 4. With 0 its edges are as papers measure them.

        Raises:
            UsageError: No such precision, device, size or amount, or the model does not give the size.
            WeightsError: There is no such model, or its file is damaged.
            DeviceError: The device is missing.
        """
        check_precision(precision)
        self.precision = precision
        self.self_ensemble = self_ensemble
        self._frame = frame
        self._model, self._stays = model, device == "auto"
        self._name = type(model).__name__ if isinstance(model, nn.Module) else Path(model).name
        self._budget = None if max_memory is None else parse_memory(max_memory)
        self._notify, self._report = notify, report
        self._noticed: set[str] = set()
        self._reported: dict[str, object] = {}
        self._lock = threading.Lock()
        wish = None if scale is None else as_size(scale)
        self.device = pick_device(device)
        self._runners: dict[int | None, Runner] = {}
        self._scales = [] if isinstance(model, nn.Module) else bundled_scales(model)
        if not self._scales:  # one network, whatever the size
            network = self._network(None)
            own = _scale_of(network, wish, self._name)
            self._scales = [] if own is None else [own]
            self._runners[own] = self._runner_of(network, own)
            self.device = self._runners[own].device
        self.size = wish or Size("scale", DEFAULT_SCALE if len(self._scales) != 1 else self._scales[0])
        if self.size.of == "scale":
            self._runner(self._own(self.size.value))  # what cannot be had is said now

    @overload
    def upscale(self, image: str | Path, progress: FractionDone = ...) -> Levels: ...
    @overload
    def upscale(self, image: Image, progress: FractionDone = ...) -> Image: ...
    def upscale(self, image: Any, progress: FractionDone = lambda done: None) -> Any:
        """Upscale one picture of any kind, as `upscale` says.

        Args:
            image: As there.
            progress: Is told, many times, how much of it has gone through the network, from 0 to 1.

        Raises:
            UsageError: The image is none of these, or of another shape or type; the wished size is smaller
                than it, or larger than the largest network of that name gives.
            ImageError: The file cannot be read.
            WeightsError: The network gives values that are not finite.
            DeviceError: Neither memory nor disk suffices.
        """
        if isinstance(image, str | Path):
            with enough_memory(str(image)):
                return self._picture(read_image(image), progress).pixels
        with enough_memory():
            if isinstance(image, Picture):
                return self._picture(image, progress)
            if isinstance(image, np.ndarray):
                return self._array(image, progress)
            if isinstance(image, Tensor):
                return self._tensor(image, progress)
            if is_pillow(image):
                return to_pillow(self._array(from_pillow(image), progress), image)
        raise UsageError(
            f"cannot upscale a {type(image).__name__}; pass a path, an array, a tensor or a PIL image"
        )

    def gives(self, height: int, width: int) -> Sides:
        """What the network makes of a picture of some pixels, before that is reduced to the size.

        Raises:
            UsageError: As `upscale`.
        """
        own = self._own(self.size.scale(height, width))
        return self.size.target(height, width) if own is None else (height * own, width * own)

    def _array(self, image: np.ndarray, progress: FractionDone) -> np.ndarray:
        """(H, W) or (H, W, C); float64 passes through as float32."""
        pixels = image.astype(np.float32) if image.dtype == np.float64 else image
        grey = image.ndim == 2
        sr = self._picture(Picture(pixels[:, :, None] if grey else pixels), progress).pixels
        return (sr[:, :, 0] if grey else sr).astype(image.dtype, copy=False)

    def _tensor(self, image: Tensor, progress: FractionDone) -> Tensor:
        """(3, H, W) or (B, 3, H, W), floating, RGB in 0..1."""
        shape = image.shape
        if not image.is_floating_point() or len(shape) not in (3, 4) or shape[-3] != 3 or 0 in shape:
            raise UsageError(
                f"cannot upscale a {image.dtype} tensor {tuple(shape)}; "
                "pass a floating one, (3, H, W) or (B, 3, H, W)"
            )
        way = self._way(*shape[-2:])
        lr = image.reshape(-1, *shape[-3:])
        sr = lr.new_empty(len(lr), 3, *way.given, requires_grad=False)

        def write(top: int, band: Tensor) -> None:
            sr[:, :, top : top + band.shape[2]] = band

        held = sum(t.numel() * t.element_size() for t in (lr, sr))
        way.runner.run(lr.detach().to(self.device, torch.float32), way.given, held, write, progress)
        if way.size != way.given:
            sr = resize(sr, way.size).clamp_(0, 1)
        return sr[0] if len(shape) == 3 else sr

    def _picture(self, picture: Picture, progress: FractionDone) -> Picture:
        """Colour and alpha apart; a constant alpha stays that constant, another one hides no colours."""
        pixels = picture.pixels
        height, width, channels = pixels.shape
        way = self._way(height, width)
        colours = 3 if channels >= 3 else 1
        out = np.empty((*way.size, channels), pixels.dtype)
        held = pixels.nbytes + out.nbytes
        alpha, shown = pixels[:, :, colours:], out[:, :, colours:]
        varies = bool((alpha != alpha[0, 0]).any())
        seen = fill_transparent(pixels) if varies else pixels[:, :, :colours]
        colours_done = (lambda done: progress(done / 2)) if varies else progress
        self._channels(seen, out[:, :, :colours], held, way, colours_done)
        if varies:
            self._channels(alpha, shown, held, way, lambda done: progress((1 + done) / 2))
            shown[:] = keep_flat(alpha, shown)
        else:
            shown[:] = alpha[0, 0]
        return replace(picture, pixels=out)

    def _channels(
        self, pixels: np.ndarray, out: np.ndarray, held: int, way: _Way, progress: FractionDone
    ) -> None:
        """Enlarge (H, W, 3) RGB or (H, W, 1) grey into `out`, of the same type; integers half to even.

        Grey goes through the network as three equal channels and comes back as their luma. Floats outside
        0..1 widen the range that is mapped onto the network's 0..1, and back: none is clipped.
        """
        low, high = _range(pixels)
        planes = np.moveaxis(pixels, 2, 0).astype(np.float32, order="C")  # (C, H, W)
        lr = torch.from_numpy(planes).to(self.device).sub_(low).div_(high - low)
        whole = out.dtype != np.float32
        reduced = way.size != way.given
        given = np.empty((*way.given, len(planes)), out.dtype) if reduced else out

        def write(top: int, band: Tensor) -> None:
            sr = band[0]  # (3, h, W)
            if len(planes) == 1:
                sr = torch.tensordot(sr.new_tensor(_LUMA), sr, dims=1)[None]
            values = sr.mul(high - low).add_(low)
            levels = (values.round() if whole else values).permute(1, 2, 0).cpu().numpy()
            given[top : top + len(levels)] = levels

        way.runner.run(lr.expand(1, 3, -1, -1), way.given, held + given.nbytes * reduced, write, progress)
        if reduced and whole:
            out[:] = resize(given, way.size)
        elif reduced:
            smaller = resize(torch.from_numpy(given).permute(2, 0, 1), way.size).clamp_(low, high)
            out[:] = smaller.permute(1, 2, 0).numpy()

    def _way(self, height: int, width: int) -> _Way:
        """How a picture of some pixels comes to the size that is wished."""
        size, given = self.size.target(height, width), self.gives(height, width)
        runner = self._runner(self._own(self.size.scale(height, width)))
        if given != size:
            wanted = self.size if self.size.of == "scale" else f"{size[1]} x {size[0]}"
            self._tell_change("size", f"{self._name} x{runner.scale}, then reduced to {wanted}")
        return _Way(runner, given, size)

    def _own(self, scale: float) -> int | None:
        """The scale of the network that is used for some factor; None if it gives any."""
        own = next((own for own in self._scales if own >= scale), None)
        if self._scales and own is None:
            raise UsageError(
                f"{self._name} enlarges x{self._scales[-1]} at most, not x{scale:g}; "
                "ask for less, or take another model"
            )
        return own

    def _runner(self, own: int | None) -> Runner:
        """The network of some scale, loaded when it is first wanted, and kept."""
        with self._lock:
            if own not in self._runners:
                self._runners[own] = self._runner_of(self._network(own), own)
            return self._runners[own]

    def _network(self, scale: int | None) -> nn.Module:
        """The network that was given, moved to the device unless that is "auto", or loaded."""
        if isinstance(self._model, nn.Module):
            return self._model if self._stays else self._model.to(self.device)
        with enough_memory(self._name):
            return load(self._model, device=self.device, scale=scale)

    def _runner_of(self, network: nn.Module, scale: int | None) -> Runner:
        parameter = next(network.parameters(), torch.empty(0))
        return Runner(
            network,
            scale,
            parameter.device,
            parameter.dtype,
            self.precision,
            self.self_ensemble,
            self._frame if isinstance(network, ESC | ESCLTE) else 0,
            self._budget,
            self._tell,
            lambda plan: self._tell_change("plan", plan),
        )

    def _tell(self, text: str) -> None:
        """Pass on each notice once."""
        with self._lock:
            new = text not in self._noticed
            self._noticed.add(text)
        if new:
            self._notify(text)

    def _tell_change(self, what: str, value: object) -> None:
        """Pass on what differs from the last time."""
        with self._lock:
            changed = self._reported.get(what) != value
            self._reported[what] = value
        if changed and self._report is not None:
            self._report(str(value))


def _range(pixels: np.ndarray) -> tuple[float, float]:
    """What is black and white to the network: the type's full range, or 0..1 and whatever lies beyond."""
    if pixels.dtype != np.float32:
        return 0.0, float(np.iinfo(pixels.dtype).max)
    return min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))


def _scale_of(network: nn.Module, wish: Size | None, name: str) -> int | None:
    """The scale of a network, None if it gives any size; one that does not tell has the scale asked for."""
    if isinstance(network, ESCLTE):
        return None
    own = getattr(getattr(network, "config", None), "scale", None)
    if own is None and wish is not None and wish.of == "scale" and wish.value == int(wish.value):
        own = wish.value
    if own is None:
        raise UsageError(f"{name} does not tell its scale; pass scale=, a whole one")
    return int(own)
