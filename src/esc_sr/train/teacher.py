"""A trained network that gives the target: for fixed LR once, kept on disk; for drawn LR in every step."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esc_sr import weights
from esc_sr.bicubic import resize
from esc_sr.cluster.address import connected
from esc_sr.cluster.pool import Failed, Piece, Pool
from esc_sr.cluster.work import Given, WorkerMeans, known_everywhere
from esc_sr.data.crops import Batch
from esc_sr.data.pictures import Decoded, Progress, Source
from esc_sr.errors import DataError, UsageError
from esc_sr.families import describe
from esc_sr.machine.claim import whole_file
from esc_sr.machine.device import pick_device
from esc_sr.upscaling.engine import Upscaler


@dataclass(frozen=True)
class Taught:
    """What a teacher makes of an LR picture, mixed with the HR picture, as the source of target crops.

    Attributes:
        hr: the HR picture, whose name it has.
        file: an array (H, W, 3) uint8 on disk, .npy: the teacher's picture.
        size: its height and width, px; HR may be a little larger.
        share: what the teacher's picture counts; the rest is HR.
    """

    hr: Source
    file: Path
    size: tuple[int, int]
    share: float

    @property
    def name(self) -> str:
        """Of the HR picture."""
        return self.hr.name

    def read(self) -> NDArray[np.uint8]:
        """The whole picture."""
        return self.crop(0, 0, *self.size)

    def crop(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """A part of it."""
        taught: NDArray[np.uint8] = np.load(self.file, mmap_mode="r")
        part = taught[top : top + height, left : left + width]
        if self.share == 1:
            return np.asarray(part)
        hr = self.hr.crop(top, left, height, width)
        return np.rint(self.share * part + (1 - self.share) * hr.astype(np.float32)).astype(np.uint8)


class Teacher:
    """A network that gives the target.

    Attributes:
        name: of its weights.
        network: what it is, in words.
        any_scale: whether it is of none in particular.
        digest: SHA-256 of its weights.
    """

    def __init__(
        self, name: str, scale: int | None, share: float, device: torch.device, *, multiples: bool = False
    ) -> None:
        """Load it.

        Args:
            name: a bundled name or a checkpoint file.
            scale: of the network that learns; None if any scale will do.
            share: what its picture counts in the target; the rest is HR.
            device: where it works.
            multiples: whether it may be of a multiple of the scale.

        Raises:
            WeightsError: there are no such weights, or they are damaged or of no known network.
            UsageError: the network does not give pictures of the scale.
        """
        self.name, self._share = Path(name).name, share
        wanted = scale if weights.bundled_scales(name) else None
        self._given = name, wanted
        self._network = weights.load(name, device, scale=wanted).requires_grad_(False)
        self.network = describe(self._network.config)
        own = self._network.config.scale
        self.any_scale = own is None
        times = 1 if own is None or scale is None else own / scale
        if times != 1 and (not multiples or times != int(times)):
            more = " or of a multiple of it" if multiples else ""
            raise UsageError(f"--teacher {name}: is {self.network}; give one of x{scale}{more}")
        self.digest = weights.digest(self._network)

    @property
    def card(self) -> dict[str, Any]:
        """What is told of it on the card of its pupil."""
        facts = {"name": self.name, "network": self.network, "sha256": self.digest, "share": self._share}
        return facts

    def targets(
        self,
        pairs: Sequence[tuple[Source, Source]],
        scale: int,
        cache: Path,
        progress: Progress,
        share: tuple[int, int] = (0, 1),
        cluster: str | None = None,
    ) -> list[tuple[Source, Source]]:
        """Put its pictures in the place of HR, computing those that are not in the cache yet.

        A file of the cache is named by weights and LR picture, and is there whole or not at all.

        Args:
            pairs: LR and HR.
            scale: HR pixels per LR pixel along a side.
            cache: folder, made if missing.
            progress: called with (pictures done, pictures in all).
            share: rank of this process, and how many there are, which begin at different pictures.
            cluster: as of `cluster.address.connected`, whose nodes see the cache and the teacher's file under
                the same names; it works for the first process. None for this machine alone.

        Returns:
            LR and target.

        Raises:
            DataError: a picture cannot be read, or the folder cannot be written to.
            EscError: as of the cluster.
        """
        folder = cache / self.digest[:16]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot be made ({error.strerror}); give another --teacher-cache"
            ) from error

        first = len(pairs) * share[0] // share[1]
        order = [*range(first, len(pairs)), *range(first)]
        lows = ((number, pairs[number][0]) for number in order)
        if cluster is None or share[0]:
            maker = _Maker(Upscaler(self._network, scale, notify=lambda text: None), scale, folder)
            made: Iterator[tuple[int, Made]] = ((number, maker(low)) for number, low in lows)
        else:
            pixels = ((number, Decoded(low.name, low.read())) for number, low in lows)
            made = over_cluster(Teaching(*self._given, scale, folder), pixels, cluster)
        found = {}
        for done, (number, (file, size)) in enumerate(made, 1):
            low, high = pairs[number]
            found[number] = low, Taught(high, file, size, self._share)
            progress(done, len(order))
        return [found[number] for number in range(len(pairs))]

    @torch.no_grad()
    def answer(self, lr: Tensor, hr: Tensor) -> Tensor:
        """The target for LR pictures that are there once.

        Args:
            lr: (B, 3, h, w), 0..1.
            hr: (B, 3, s h, s w), 0..1: what the target is without a teacher.

        Returns:
            (B, 3, s h, s w), 0..1, in whole levels of 255.
        """
        size = hr.shape[2], hr.shape[3]
        sr = self._network.enlarge(lr, hr.shape[2] // lr.shape[2])
        sr = (sr if sr.shape == hr.shape else resize(sr, size)).clamp(0, 1)
        return torch.round(torch.lerp(hr, sr, self._share) * 255) / 255

    def colours(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Batches of `cut_queries` with its colours, mixed with those of HR, in the place of the latter."""
        for lr, coord, cell, colours in batches:
            with torch.no_grad():
                given = (part.to(next(self._network.parameters()).device) for part in (lr, coord, cell))
                taught = self._network.query(*given).clamp(-1, 1)
            yield lr, coord, cell, torch.lerp(colours.to(taught.device), taught, self._share)


Made = tuple[Path, tuple[int, int]]
"""A file of the cache, and height and width of the picture in it."""


class _Maker:
    """Makes files of the cache from LR pictures, unless they are there."""

    def __init__(self, upscaler: Upscaler, scale: int, folder: Path) -> None:
        self._upscaler, self._scale, self._folder = upscaler, scale, folder

    def __call__(self, low: Source) -> Made:
        """The file of a picture; errors as of `Teacher.targets`."""
        lr = low.read()
        name = hashlib.sha256(repr(lr.shape).encode() + lr.tobytes()).hexdigest()[:32]
        file, size = self._folder / f"{name}.npy", (lr.shape[0] * self._scale, lr.shape[1] * self._scale)
        if not _is_whole(file, (*size, 3)):
            _write(self._upscaler.upscale(np.ascontiguousarray(lr)), file)
        return file, size


class Teaching:
    """`ClusterWork` on numbered LR pictures, which gives `Made`."""

    def __init__(self, name: str, own: int | None, scale: int, folder: Path) -> None:
        self._name, self._own = known_everywhere(name), own
        self._scale, self._folder = scale, folder.absolute()

    def prepare(self, means: WorkerMeans) -> str:
        """Load the teacher; its digest."""
        network = weights.load(self._name, pick_device(means.device), scale=self._own)
        tells = means.device == "cpu" and network.cost(1, 1, 1) is not None
        memory = means.memory if tells else None
        upscaler = Upscaler(network, self._scale, max_memory=memory, notify=lambda text: None)
        self._maker = _Maker(upscaler, self._scale, self._folder)
        return weights.digest(network)

    def do(self, item: tuple[int, Decoded], given: Given) -> Made:
        """Make the file of a picture."""
        return self._maker(item[1])


def over_cluster(
    teaching: Teaching, lows: Iterator[tuple[int, Decoded]], cluster: str
) -> Iterator[tuple[int, Made]]:
    """Have a cluster make the files of numbered LR pictures, as they come; errors as of `Teacher.targets`."""
    with connected(cluster) as ray, Pool(ray, teaching) as pool:
        pool.wait()
        for done in pool.run(Piece(low, alone=True) for low in lows):
            if isinstance(done.result, Failed):
                raise DataError(done.result.reason)
            yield done.item[0], done.result


def _is_whole(file: Path, shape: tuple[int, ...]) -> bool:
    """Whether a picture is in the cache; one that a crash of the machine cut short is not."""
    try:
        return np.load(file, mmap_mode="r").shape == shape
    except (OSError, ValueError, EOFError):
        return False


def _write(picture: NDArray[np.uint8], file: Path) -> None:
    """Write a picture whole or not at all."""
    try:
        with whole_file(file) as target:
            np.save(target, picture)
    except OSError as error:
        raise DataError(
            f"{file.parent}: cannot be written ({error.strerror or error}); what is there is whole and will "
            "be used: make room, or give another --teacher-cache"
        ) from error
