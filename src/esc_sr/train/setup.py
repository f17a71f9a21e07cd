"""What a run gives the parts of its recipe to work with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from esc_sr.data.pictures import Entry, Progress, Source
from esc_sr.data.sources import Stored, hold, measure
from esc_sr.errors import UsageError
from esc_sr.train.perceptual import PerceptualLoss
from esc_sr.train.teacher import Teacher

Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Setup:
    """A run's scale, device, pictures and frozen networks.

    Attributes:
        scale: HR pixels per LR pixel along a side; for ESC+LTE, that of the validation.
        device: where training is done.
        share: rank of this process, and how many there are.
        roots: HR pictures, as `find_pictures` lists them.
        lr: folders and .tar shards of LR pictures, one for each root, or none to make them.
        cache: bytes that decoded pictures may take.
        teacher: gives the target, if there is one.
        teacher_cache: folder for its pictures, where LR is the same every time.
        teacher_cluster: the Ray cluster that makes these, if any.
        vgg: VGG19's weights, if they were given.
        started: whether the network has weights to go on from.
        report: called with each record of the run.
    """

    scale: int
    device: torch.device = torch.device("cpu")
    share: tuple[int, int] = (0, 1)
    roots: Sequence[Sequence[Entry]] = ()
    lr: Sequence[Path] = ()
    cache: int = 0
    teacher: Teacher | None = None
    teacher_cache: Path = Path("teacher")
    teacher_cluster: str | None = None
    vgg: Path | None = None
    started: bool = False
    report: Report = lambda record: None

    @cached_property
    def perceptual(self) -> PerceptualLoss | None:
        """The perceptual loss of `vgg`, on the device, read when it is first asked for.

        Raises:
            WeightsError: the file cannot be used.
        """
        return PerceptualLoss(self.vgg, self.note).to(self.device) if self.vgg else None

    def note(self, text: str) -> None:
        """Report a line."""
        self.report({"event": "note", "text": text})

    def progress(self, what: str) -> Progress:
        """Report some twenty times how far a pass over pictures is."""

        def progress(done: int, total: int) -> None:
            if done % max(total // 20, 1) == 0 or done == total:
                self.report({"event": "loading", "what": what, "done": done, "total": total})

        return progress

    def measure(self, side: int) -> list[Stored]:
        """Read the headers of all HR pictures, which must have so many px on each side.

        Raises:
            DataError: some cannot be read or are too small; names the first few.
        """
        return measure(
            [entry for entries in self.roots for entry in entries],
            side,
            self.progress("the sizes of training"),
        )

    def hold(self, sources: Sequence[Source]) -> list[Source]:
        """Take pictures into the cache as far as it reaches; errors as in `data.sources.hold`."""
        return hold(sources, self.cache, self.progress("training"))

    def refuse_lr(self, recipe: str) -> None:
        """Raise UsageError if there are LR pictures, which a recipe does not take."""
        if self.lr:
            raise UsageError(f"--lr {self.lr[0]}: the recipe {recipe} makes its own LR; leave it out")

    def refuse_vgg(self, recipe: str) -> None:
        """Raise UsageError if there are VGG19's weights, which a recipe does not compare with."""
        if self.vgg:
            raise UsageError(f"--vgg {self.vgg}: the recipe {recipe} has no perceptual loss; leave it out")

    def refuse_cluster(self) -> None:
        """Raise UsageError if a cluster is to make a teacher's pictures, and none are kept."""
        if self.teacher_cluster:
            what = "makes pictures of a --teacher for the recipe classic alone; leave it out"
            raise UsageError(f"--teacher-cluster {self.teacher_cluster}: {what}")
