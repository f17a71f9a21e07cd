"""One picture through a network, band by band, within the memory there is."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from esc_sr.errors import WeightsError
from esc_sr.network import ESC, ESCLTE
from esc_sr.upscale import Progress
from esc_sr.upscale.plan import MemoryPlan, Task, plan_memory

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Write = Callable[[int, Tensor], None]
"""Takes the first row of a finished band and the band (B, 3, h, scale W), float32 in 0..1, on the device."""


class _NotFiniteError(ArithmeticError):
    """NaN or infinity in a band."""


class Runner(NamedTuple):
    """A network and how it is run.

    Attributes:
        model: The network.
        scale: How many times higher and wider a picture becomes.
        device: Where the network is.
        dtype: Of its parameters.
        precision: One of `PRECISIONS`.
        self_ensemble: Mean over the eight flips and rotations.
        budget: Bytes that a picture may take; None is a safe part of what is free.
        notify: Is told when the precision did not suffice.
        report: Is told each plan.
    """

    model: nn.Module
    scale: int
    device: torch.device
    dtype: torch.dtype
    precision: str
    self_ensemble: bool
    budget: int | None
    notify: Callable[[str], object]
    report: Callable[[MemoryPlan], object]

    def run(self, lr: Tensor, held: int, write: Write, progress: Progress) -> None:
        """Enlarge pictures (B, 3, H, W) in 0..1; bands may be written again from the first row on.

        Where half precision overflows, the whole picture is done again in float32: what overflowed has
        gone into the means over the picture, and through them into every pixel. Where a device runs out of
        memory, it is done again in bands half as high.

        Args:
            lr: Float32, on the CPU or the network's device.
            held: Bytes of main memory that the picture and its result take.
            write: Takes the bands from top to bottom.
            progress: Is told of each band of each stage of the network.

        Raises:
            WeightsError: The network gives values that are not finite.
            DeviceError: Neither memory nor disk suffices.
        """
        precision = self.precision
        plan = self._plan(lr, held, precision)
        while True:
            try:
                with torch.inference_mode():
                    return self._attempt(lr, plan, precision, write, progress)
            except torch.OutOfMemoryError:
                plan = plan and plan.halved()
                if plan is None:
                    raise
                self.report(plan)
            except _NotFiniteError:
                if precision == "fp32":
                    raise WeightsError(
                        "the network gives NaN or infinite values; its weights, or the input, are damaged"
                    ) from None
                self.notify(f"{precision} overflowed in the network; done again in fp32")
                precision = "fp32"
                plan = self._plan(lr, held, precision)

    def _plan(self, lr: Tensor, held: int, precision: str) -> MemoryPlan | None:
        """Plan and report; None for a network that is not one of ours."""
        if not isinstance(self.model, ESC | ESCLTE):
            return None
        if self.self_ensemble:
            held += 4 * lr.numel() * self.scale**2  # the sum
        size = min(self.dtype.itemsize, PRECISIONS[precision].itemsize)
        task = Task(lr.shape, held, size, self.self_ensemble)
        plan = plan_memory(self.model, task, self.device, self.budget)
        self.report(plan)
        return plan

    def _attempt(
        self, lr: Tensor, plan: MemoryPlan | None, precision: str, write: Write, progress: Progress
    ) -> None:
        """Enlarge pictures, once or in all flips and rotations; the sum of these is one float32 buffer."""
        if not self.self_ensemble:
            for top, band in self._bands(lr, plan, precision, progress):
                write(top, band.clamp(0, 1))
            return
        batch, _, height, width = lr.shape
        total = np.zeros((batch, 3, height * self.scale, width * self.scale), np.float32)
        for turns in range(4):
            for step in (1, -1):
                view = torch.rot90(lr.flip(-1) if step < 0 else lr, turns, (-2, -1))
                place = np.rot90(total[..., ::step], turns, (-2, -1))  # a view: what is added is turned back
                before = 2 * turns + (step < 0)
                part = partial(lambda before, done: progress((before + done) / 8), before)
                for top, band in self._bands(view, plan, precision, part):
                    place[:, :, top : top + band.shape[2]] += band.cpu().numpy()
        rows = self.scale * (plan.rows if plan else height)
        for top in range(0, total.shape[2], rows):
            band = torch.from_numpy(total[:, :, top : top + rows]).to(self.device)
            write(top, (band / 8).clamp(0, 1))

    def _bands(
        self, lr: Tensor, plan: MemoryPlan | None, precision: str, progress: Progress
    ) -> Iterator[tuple[int, Tensor]]:
        """One run of the network, float32 from end to end but for the layers that autocast chooses."""
        lr = lr.to(self.device, self.dtype)
        dtype = PRECISIONS[precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            for top, band in self._network(lr, plan, progress):
                band = band.float()
                if not band.isfinite().all():
                    raise _NotFiniteError
                yield top, band

    def _network(
        self, lr: Tensor, plan: MemoryPlan | None, progress: Progress
    ) -> Iterator[tuple[int, Tensor]]:
        """The bands that the network gives; a network that is not one of ours gives one."""
        if plan is None or not isinstance(self.model, ESC | ESCLTE):
            yield 0, self.model(lr)
            progress(1)
            return
        height, width = lr.shape[-2:]
        all_rows, rows_done = self.model.passes * -(-height // plan.fold), 0.0

        def done(rows: float) -> None:
            nonlocal rows_done
            rows_done += rows
            progress(rows_done / all_rows)

        bands = plan.bands(width, self.device, done)
        if isinstance(self.model, ESCLTE):
            yield from self.model.bands(lr, (height * self.scale, width * self.scale), bands)
        else:
            yield from self.model.bands(lr, bands)
