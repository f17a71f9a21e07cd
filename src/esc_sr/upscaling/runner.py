"""One picture through a network, band by band, within the memory there is."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from esc_sr.errors import WeightsError
from esc_sr.families.contract import HANDED, Network
from esc_sr.machine.memory import DiskFullError, keep_no_freed_memory
from esc_sr.machine.precision import PRECISIONS, autocast
from esc_sr.network.rows import Bands
from esc_sr.upscaling import FractionDone
from esc_sr.upscaling.frame import framed, unframed
from esc_sr.upscaling.plan import MemoryPlan, Workload, plan_memory
from esc_sr.upscaling.tiles import map_rows, tiled

Sides = tuple[int, int]
"""Height and width in pixels."""

Write = Callable[[int, Tensor], None]
"""Takes the first row of a finished band and the band (B, 3, h, scale W), float32 in 0..1, on the device."""


class _NotFiniteError(ArithmeticError):
    """NaN or infinity in a band."""


class Runner(NamedTuple):
    """A network and how it is run.

    Attributes:
        model: The network.
        device: Where the network is.
        dtype: Of its parameters.
        precision: One of `PRECISIONS`.
        self_ensemble: Mean over the eight flips and rotations.
        frame: Pixels around a picture, if the network is `framed`; 0 for none.
        budget: Bytes that a picture may take; None is a safe part of what is free.
        notify: Is told when the precision did not suffice.
        report: Is told each plan.
    """

    model: Network
    device: torch.device
    dtype: torch.dtype
    precision: str
    self_ensemble: bool
    frame: int
    budget: int | None
    notify: Callable[[str], object]
    report: Callable[[MemoryPlan], object]

    def run(self, lr: Tensor, size: Sides, held: int, write: Write, progress: FractionDone) -> None:
        """Enlarge pictures (B, 3, H, W) in 0..1 to a size that the network gives.

        The network sees them in a frame (`frame.framed`), of which nothing is left in the result.
        Bands may be written again from the first row on.

        Where half precision overflows, the whole picture is done again in float32: what overflowed has
        gone into the means over the picture, and through them into every pixel. Where a device runs out of
        memory, it is done again in bands half as high; where the disk is full, without it.

        Args:
            lr: Float32, on the CPU or the network's device.
            size: Height and width of the result.
            held: Bytes of main memory that the picture and its result take.
            write: Takes the bands from top to bottom.
            progress: Is told of each band of each stage of the network.

        Raises:
            WeightsError: The network gives values that are not finite.
            DeviceError: Neither memory nor disk suffices.
        """
        precision = self.precision
        if self.frame:
            lr = framed(lr, self.frame)
        scale = self.model.config.scale
        if self.frame and scale is not None:
            write = unframed(write, size, scale * self.frame)
            size = scale * lr.shape[2], scale * lr.shape[3]
        plan = self._plan(lr, size, held, precision)
        while True:
            try:
                with torch.inference_mode():
                    return self._attempt(lr, size, plan, precision, write, progress)
            except torch.OutOfMemoryError:
                plan = plan and plan.halved()
                if plan is None:
                    raise
                self.report(plan)
            except DiskFullError:  # others have taken the room since the plan was made
                plan = self._plan(lr, size, held, precision, disk=0)
            except _NotFiniteError:
                if precision == "fp32":
                    raise WeightsError(
                        "the network gives NaN or infinite values; its weights, or the input, are damaged"
                    ) from None
                self.notify(f"{precision} overflowed in the network; done again in fp32")
                precision = "fp32"
                plan = self._plan(lr, size, held, precision)

    def plan(
        self, shape: torch.Size, size: Sides, held: int, precision: str, disk: int | None = None
    ) -> MemoryPlan | None:
        """How pictures would be worked through; None for a network that does not tell its cost.

        Args:
            shape: Of the pictures in their frame, (B, 3, H, W).
            size: Height and width of the result.
            held: As of `run`.
            precision: One of `PRECISIONS`.
            disk: As of `plan_memory`.

        Raises:
            DeviceError: As there.
        """
        if self.model.cost(1, 1, 1) is None:
            return None
        if self.self_ensemble:
            held += 4 * shape[0] * 3 * size[0] * size[1]  # the sum
        width = min(self.dtype.itemsize, PRECISIONS[precision].itemsize)
        work = Workload(shape, held, width, self.self_ensemble, self.frame)
        return plan_memory(self.model, work, self.device, self.budget, disk)

    def _plan(
        self, lr: Tensor, size: Sides, held: int, precision: str, disk: int | None = None
    ) -> MemoryPlan | None:
        """Plan and report."""
        plan = self.plan(lr.shape, size, held, precision, disk)
        if plan is None:
            return None
        self.report(plan)
        if plan.tile or not self.model.has_bands:
            keep_no_freed_memory()
        if not plan.exact:
            what = "memory and disk" if self.model.has_bands else "memory"
            self.notify(
                f"{plan.sides}: too little {what} for the exact result; done in blended tiles, approximately"
            )
        return plan

    def _attempt(
        self,
        lr: Tensor,
        size: Sides,
        plan: MemoryPlan | None,
        precision: str,
        write: Write,
        progress: FractionDone,
    ) -> None:
        """Enlarge pictures, once or in all flips and rotations; the sum of these is one float32 buffer."""
        if not self.self_ensemble:
            for top, band in self._bands(lr, size, plan, precision, progress):
                write(top, band.clamp(0, 1))
            return
        height = lr.shape[2]
        total = np.zeros((len(lr), 3, *size), np.float32)
        for turns in range(4):
            sides = (size[1], size[0]) if turns % 2 else size
            for step in (1, -1):
                view = torch.rot90(lr.flip(-1) if step < 0 else lr, turns, (-2, -1))
                place = np.rot90(total[..., ::step], turns, (-2, -1))  # a view: what is added is turned back
                before = 2 * turns + (step < 0)
                part = partial(lambda before, done: progress((before + done) / 8), before)
                for top, band in self._bands(view, sides, plan, precision, part):
                    place[:, :, top : top + band.shape[2]] += band.cpu().numpy()
        high = plan.rows if plan and self.model.has_bands else HANDED
        rows = max(size[0] * high // height, 1)
        for top in range(0, size[0], rows):
            band = torch.from_numpy(total[:, :, top : top + rows]).to(self.device)
            write(top, (band / 8).clamp(0, 1))

    def _bands(
        self, lr: Tensor, size: Sides, plan: MemoryPlan | None, precision: str, progress: FractionDone
    ) -> Iterator[tuple[int, Tensor]]:
        """One run of the network, float32 from end to end but for the layers that autocast chooses."""
        lr = lr.to(self.device, self.dtype)
        bands = self._network(lr, size, plan, progress)
        while True:
            with autocast(self.device, precision):
                found = next(bands, None)  # whoever takes the band works outside of autocast
            if found is None:
                return
            top, band = found[0], found[1].float()
            if not band.isfinite().all():
                raise _NotFiniteError
            yield top, band

    def _network(
        self, lr: Tensor, size: Sides, plan: MemoryPlan | None, progress: FractionDone
    ) -> Iterator[tuple[int, Tensor]]:
        """The bands that the network gives."""
        model, (height, width) = self.model, lr.shape[2:]
        tile = plan.tile if plan else 0
        all_rows = map_rows(model, height, width, tile) if tile else -(-height // model.fold)
        rows_done = 0.0

        def done(rows: float) -> None:
            nonlocal rows_done
            rows_done += rows
            progress(rows_done / (all_rows * model.passes))

        bands = plan.bands(width, self.device, done) if plan else Bands(height, self.device, done=done)
        how = (size, self.frame) if model.config.scale is None else ()
        yield from tiled(model, lr, tile, bands, *how) if tile else model.bands(lr, bands, *how)
