"""Methods on benchmark sets: rows of scores, kept as they come, beside the paper's."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from esc_sr import paper
from esc_sr.data.sets import BenchmarkSet, Item, Sample
from esc_sr.engines import load
from esc_sr.errors import EscError
from esc_sr.evaluate.scores import PAPER, Pixels, Protocol, bicubic, predict, score
from esc_sr.families import variant
from esc_sr.families.contract import Network
from esc_sr.metrics import luma
from esc_sr.niqe import NiqeModel, niqe

BICUBIC = "bicubic"


class Method(NamedTuple):
    """What is measured: bicubic, or a network at one scale, and how."""

    name: str
    preset: str | None
    network: Network | None
    protocol: Protocol = PAPER

    def __call__(self, lr: NDArray[np.uint8], scale: int) -> Pixels:
        """Upscale (h, w, 3) RGB, 0..255."""
        return bicubic(lr, scale) if self.network is None else predict(self.network, lr, scale, self.protocol)

    @property
    def table(self) -> int:
        """The paper's table of such scores."""
        any_size = self.network is not None and self.network.config.scale is None
        return 5 if self.protocol.channels == "rgb" else 6 if any_size else 2


def find_method(
    name: str,
    scale: int,
    device: str | torch.device = "cpu",
    engine: str = "auto",
    tell: Callable[[str], object] = lambda text: None,
    **changes: Any,
) -> Method:
    """Load what is to be measured, with the paper's protocol for it.

    Args:
        name: "bicubic", a bundled name, or a checkpoint file.
        scale: that it has to have.
        device: where to put it.
        engine: what computes it, as of `engines.load`.
        tell: as there.
        changes: to the protocol, as of `Protocol.of`.

    Raises:
        WeightsError: no such weights, or not at this scale.
        UsageError: no protocol has such changes, or the engine cannot be used.
        DeviceError: the engine cannot be used here.
    """
    protocol = Protocol.of(None, **changes)
    network = None
    if name != BICUBIC:
        network = load(name, device, scale=scale, engine=engine, precision=protocol.precision, tell=tell)
        protocol = Protocol.of(network, **changes)
    if network is None:
        return Method(BICUBIC, None, None, protocol)
    shown = Path(name).stem if Path(name).is_file() else name
    return Method(shown, variant(network.config), network, protocol)


def find_methods(
    names: Iterable[str],
    scale: int,
    device: str | torch.device = "cpu",
    engine: str = "auto",
    tell: Callable[[str], object] = lambda text: None,
    **changes: Any,
) -> list[Method]:
    """Load each of several once, as `find_method` does; files of one name are told apart by their paths."""
    found = {name: find_method(name, scale, device, engine, tell, **changes) for name in names}
    taken = Counter(method.name for method in found.values())
    return [
        method._replace(name=name) if taken[method.name] > 1 else method for name, method in found.items()
    ]


class Result(NamedTuple):
    """What a method made of a picture, and its scores: psnr and ssim, or niqe."""

    pixels: Pixels
    scores: dict[str, float]


@dataclass
class ScoreRow:
    """Scores of a method on a set at a scale.

    Attributes:
        model: the name of the method.
        preset: the preset whose sizes the network has, if any.
        set: name of the benchmark set.
        scale: HR over LR side.
        source: how LR and HR were found.
        total: pictures in the set.
        protocol: how the method predicts, and is compared.
        table: of the paper, to compare with.
        images: one mapping per picture done: name, and psnr and ssim, or niqe; rounded_to_8_bits if it was.
        failed: what went wrong, by picture.
    """

    model: str
    preset: str | None
    set: str
    scale: int
    source: str
    total: int
    protocol: Protocol = PAPER
    table: int = 2
    images: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def mean(self, key: str) -> float | None:
        """Mean of psnr, ssim or niqe over the pictures done; None if none has it."""
        values = [image[key] for image in self.images if key in image]
        return float(np.mean(values)) if values else None

    @property
    def complete(self) -> bool:
        """Whether every picture of the set is done."""
        return len(self.images) == self.total

    def paper(self) -> tuple[float, float | None] | None:
        """PSNR and SSIM that the table has for this network, set and scale."""
        scores = paper.scores(self.table, self.preset, self.scale) if self.preset else {}
        return scores.get(_paper_name(self.set))

    def record(self) -> dict[str, Any]:
        """The row as JSON holds it: psnr_y and ssim_y, or psnr_rgb and ssim_rgb, or niqe."""
        printed, channels = self.paper(), self.protocol.channels
        return {
            **asdict(self),
            "complete": self.complete,
            f"psnr_{channels}": self.mean("psnr"),
            f"ssim_{channels}": self.mean("ssim"),
            "niqe": self.mean("niqe"),
            "paper": printed and {"table": self.table, "psnr": printed[0], "ssim": printed[1]},
        }


def run(
    methods: Sequence[Method],
    pictures: BenchmarkSet,
    rows: list[ScoreRow],
    *,
    table: int | None = None,
    natural: NiqeModel | None = None,
    progress: Callable[[str], None] = lambda name: None,
    show: Callable[[Sample, Mapping[str, Result]], None] = lambda sample, results: None,
) -> None:
    """Measure methods on a set; a picture that fails is named in its row, and the rest goes on.

    Args:
        methods: at the scale of the set.
        pictures: the set.
        rows: one per method is added, and filled as pictures are done.
        table: of the paper, to compare all with; by default that of each method.
        natural: NIQE's model of good pictures; by default the package's own.
        progress: told the name of each picture before it is begun.
        show: given each picture with what every method, by name, made of it.
    """
    mine = begin_rows(methods, pictures, table)
    rows += mine
    for item in pictures.items:
        progress(f"{pictures.name} x{pictures.scale} {item.name}")
        measured = measure(methods, pictures, item, natural)
        fill_rows(mine, item, measured.found)
        if measured.sample is not None and measured.results:
            show(measured.sample, measured.results)


class Measured(NamedTuple):
    """What became of a picture: for each method what stands in its row, or why it failed; and pictures."""

    found: list[dict[str, Any] | str]
    sample: Sample | None = None
    results: Mapping[str, Result] = MappingProxyType({})


def begin_rows(methods: Sequence[Method], pictures: BenchmarkSet, table: int | None = None) -> list[ScoreRow]:
    """A row for each method on a set, without pictures yet; the table is as of `run`."""
    facts = pictures.name, pictures.scale, pictures.source, len(pictures.items)
    return [
        ScoreRow(method.name, method.preset, *facts, method.protocol, table or method.table)
        for method in methods
    ]


def fill_rows(rows: Sequence[ScoreRow], item: Item, found: Sequence[dict[str, Any] | str]) -> None:
    """Add a picture to the rows of its set, one for each method."""
    for row, one in zip(rows, found, strict=True):
        if isinstance(one, str):
            row.failed[item.name] = one
        else:
            row.images.append(one)


def measure(
    methods: Sequence[Method], pictures: BenchmarkSet, item: Item, natural: NiqeModel | None
) -> Measured:
    """Measure methods on one picture of a set; arguments as of `run`."""
    try:
        sample = pictures.load(item)
    except EscError as error:
        return Measured([str(error)] * len(methods))
    found: list[dict[str, Any] | str] = []
    results: dict[str, Result] = {}
    for method in methods:
        try:
            pixels = method(sample.lr, pictures.scale)
            scores = _judge(pixels, sample, pictures.scale, method.protocol, natural)
        except EscError as error:
            found.append(str(error))
            continue
        marks = {"rounded_to_8_bits": True} if sample.rounded else {}
        found.append({"name": item.name, **scores, **marks})
        results[method.name] = Result(pixels, scores)
    return Measured(found, sample, results)


def _judge(
    sr: Pixels, sample: Sample, scale: int, protocol: Protocol, natural: NiqeModel | None
) -> dict[str, float]:
    """PSNR and SSIM; without ground truth NIQE."""
    if sample.hr is None:
        return {"niqe": niqe(luma(torch.from_numpy(sr).permute(2, 0, 1)), model=natural)}
    psnr, ssim = score(sr, sample.hr, scale, protocol, sample.grey)
    return {"psnr": psnr, "ssim": ssim}


def _paper_name(name: str) -> str:
    """What the paper's tables call a set."""
    plain = name.lower().replace("_", "").replace("-", "")
    known = {"b100": "BSD100", "bsd100": "BSD100", "bsds100": "BSD100"}
    known |= {name.lower(): name for name in ("Set5", "Set14", "Urban100", "Manga109")}
    return "DIV2K" if plain.startswith("div2k") else known.get(plain, name)
