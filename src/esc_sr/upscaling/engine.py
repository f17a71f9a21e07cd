"""Pictures, arrays and tensors through a network."""

import threading
import warnings
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, overload

import torch
from torch import nn

from esc_sr.engines import warn_of_slowness
from esc_sr.errors import UsageError
from esc_sr.families.contract import Network
from esc_sr.machine.memory import parse_memory
from esc_sr.machine.precision import check_precision
from esc_sr.upscaling import DEFAULT_MODEL, FractionDone
from esc_sr.upscaling.frame import FRAME
from esc_sr.upscaling.kinds import Image, Levels, PictureFile, upscale_any
from esc_sr.upscaling.models import Engine, Networks, Way
from esc_sr.upscaling.plan import MemoryPlan
from esc_sr.upscaling.runner import Runner, Sides
from esc_sr.upscaling.sizes import Size, as_size


@overload
def upscale(
    image: PictureFile,
    model: str | Path | nn.Module = ...,
    scale: float | Size | None = ...,
    device: str = ...,
    precision: str = ...,
    self_ensemble: bool = ...,
    max_memory: str | int | None = ...,
    engine: str = ...,
    allow_large: bool = ...,
    denoise: float | None = ...,
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
    engine: str = ...,
    allow_large: bool = ...,
    denoise: float | None = ...,
) -> Image: ...
def upscale(
    image: Any,
    model: str | Path | nn.Module = DEFAULT_MODEL,
    scale: float | Size | None = None,
    device: str = "auto",
    precision: str = "fp32",
    self_ensemble: bool = False,
    max_memory: str | int | None = None,
    engine: str = "auto",
    allow_large: bool = False,
    denoise: float | None = None,
) -> Any:
    """Upscale one picture.

    Args:
        image: A picture file: its path, its bytes, or an object opened in binary; a `Picture`; an array
            (H, W) or (H, W, C) of uint8, uint16, or float32 or float64 in 0..1, with C = 1 grey, 2 grey +
            alpha, 3 RGB, 4 RGB + alpha; a floating tensor (3, H, W) or (B, 3, H, W), RGB in 0..1; or a PIL
            image, as `esc_sr.image.pillow.from_pillow` says.
        model: A bundled name, a checkpoint file, or a network (B, 3, H, W) -> (B, 3, scale H, scale W).
        scale: Any factor from 1 to 64, or a `Size`; None takes that of the model, and 2 where the model has
            several. One with LTE gives any size; another network gives its own scale, of a bundled name the
            next larger one, and the result is reduced by `esc_sr.resize`.
        device: "auto", "cpu", "cuda", "cuda:1", "xpu" or "mps"; "auto" leaves a network where it is.
        precision: "fp32", "bf16" or "fp16", that of the arithmetic inside the network.
        self_ensemble: Mean over the eight flips and rotations: a little better, eight times as long.
        max_memory: What a picture may take of the device's memory: bytes, or text such as "4GiB"; None is a
            safe part of what is free. It changes how the work is cut, and nothing in the result. A module
            that does not tell its cost (`families.contract.Network`) runs whole, and is refused with it.
        engine: "auto", "torch", "native", "openvino" or "onnx", as `esc_sr.engines` says; the last two take a
            picture in one piece, or where memory is too small for that in blended tiles.
        allow_large: Take a file of more than 128 megapixels, too; other kinds of picture may have any number.
        denoise: How much noise goes, 0..1, of a bundled name with weak weights beside its own: the share of
            its own in the mean of both (`weights.mix`), at scales that have both. None leaves it as it is.

    Returns:
        The same kind, type and layout, scale times as high and wide; for a file, an array (H, W, C).

    Raises:
        UsageError: An argument is none of the above, the size is more than the model gives, or the engine is
            not installed.
        ImageError: The file cannot be read, or is too large.
        WeightsError: There is no such model, or its file is damaged.
        DeviceError: The device is missing or too small, or has not what the engine needs.
    """
    upscaler = Upscaler(
        model,
        scale,
        device,
        precision,
        self_ensemble,
        max_memory,
        engine=engine,
        allow_large=allow_large,
        denoise=denoise,
    )
    return upscaler.upscale(image)


class Upscaler:
    """A network, or the networks of one name, and how they are used.

    It may be used again and again, and by several threads at once; `max_memory` is then for each of them.

    Attributes:
        size: What a picture becomes.
        device: Where the network runs.
        precision: As of `upscale`.
        self_ensemble: Whether the result is the mean over the eight flips and rotations.
        denoise: As of `upscale`.
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
        engine: str = "auto",
        allow_large: bool = False,
        denoise: float | None = None,
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
                "esc-light x3, then reduced to x2.5"; at once, when the precision costs time on the device.
            frame: Mirrored pixels around a picture, which keep the zero padding of a network that is `framed`
                out of it; multiples of 4. With 0 its edges are as papers measure them.
            engine: As there.
            allow_large: As there.
            denoise: As there.

        Raises:
            UsageError: No such precision, device, engine, size, amount or share, or not of this model.
            WeightsError: There is no such model, or its file is damaged.
            DeviceError: The device is missing, or what the engine needs.
        """
        check_precision(precision)
        self.precision = precision
        self.self_ensemble = self_ensemble
        self.denoise = denoise
        self._frame = frame
        self._allow_large = allow_large
        self._budget = None if max_memory is None else parse_memory(max_memory)
        self._notify, self._report = notify, report
        self._noticed: set[str] = set()
        self._reported: dict[str, object] = {}
        self._lock = threading.Lock()
        wish = None if scale is None else as_size(scale)
        how = Engine(engine, precision, lambda text: self._tell_change("engine", text))
        self._networks = Networks(model, wish, device, self._ready, how, denoise)
        self.device = self._networks.device
        warn_of_slowness(self.device, precision, lambda text: self._tell_change("precision", text))
        self.size = wish or Size("scale", self._networks.usual)
        if self.size.of == "scale":
            self._networks.runner(self._networks.own(self.size.value))  # what cannot be had is said now

    @overload
    def upscale(self, image: PictureFile, progress: FractionDone = ...) -> Levels: ...
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
            ImageError: The file cannot be read, or is too large.
            WeightsError: The network gives values that are not finite.
            DeviceError: Neither memory nor disk suffices.
        """
        return upscale_any(image, self._way, progress, self._allow_large)

    def gives(self, height: int, width: int) -> Sides:
        """What the network makes of a picture of some pixels, before that is reduced to the size.

        Raises:
            UsageError: As `upscale`.
        """
        return self._networks.given(self.size, height, width)

    def plan(self, height: int, width: int) -> MemoryPlan | None:
        """How a picture of some pixels, three colours of 8 bits, would be worked through.

        Returns:
            None for a network that does not tell its cost.

        Raises:
            UsageError: As `upscale`.
            WeightsError: The file of the network is damaged.
            DeviceError: Neither memory nor disk suffices.
        """
        way = self._networks.way(self.size, height, width)
        frame, scale = way.runner.frame, way.runner.model.config.scale
        size = way.given if scale is None else (scale * (height + 2 * frame), scale * (width + 2 * frame))
        outputs = (way.size, *[way.given] * (way.given != way.size))
        held = 3 * (height * width + sum(map(prod, outputs)))
        shape = torch.Size((1, 3, height + 2 * frame, width + 2 * frame))
        return way.runner.plan(shape, size, held, self.precision)

    def own(self, height: int, width: int) -> int | None:
        """The scale of the network that a picture of some pixels goes through; None if it gives any.

        Raises:
            UsageError: As `upscale`.
        """
        return self._networks.own(self.size.scale(height, width))

    def _way(self, height: int, width: int) -> Way:
        """How a picture of some pixels comes to the size that is wished."""
        way = self._networks.way(self.size, height, width)
        if way.given != way.size:
            wanted = self.size if self.size.of == "scale" else f"{way.size[1]} x {way.size[0]}"
            own = way.runner.model.config.scale
            self._tell_change("size", f"{self._networks.name} x{own}, then reduced to {wanted}")
        return way

    def _ready(self, network: Network, name: str) -> Runner:
        """A network, and how it is run here."""
        if self._budget is not None and network.cost(1, 1, 1) is None:
            raise UsageError(
                f"{name} does not tell what memory it takes, so that max_memory cannot be kept; "
                "leave it out, or pass a families.contract.Network with a cost"
            )
        parameter = next(network.parameters(), torch.empty(0))
        return Runner(
            network,
            parameter.device,
            parameter.dtype,
            self.precision,
            self.self_ensemble,
            self._frame if network.framed else 0,
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
