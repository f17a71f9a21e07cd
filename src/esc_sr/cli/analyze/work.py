"""What all of `esc-sr analyze` have in common: options, pictures, networks, and what is written."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from esc_sr import record, weights
from esc_sr.analysis.store import Store
from esc_sr.cli.output import for_people, print_json, to_json
from esc_sr.cli.report import counter
from esc_sr.data.sets import BenchmarkSet, Item, Sample, find_set
from esc_sr.errors import UsageError
from esc_sr.families.contract import Network
from esc_sr.figure import check_target, save_figure
from esc_sr.machine.claim import whole_file
from esc_sr.machine.device import pick_device

LrFiles = Annotated[
    list[Path] | None, typer.Argument(metavar="[PICTURE ...]", help="LR pictures, as they are.")
]
SetFolder = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of a benchmark set, whose LR is found or made as in evaluate."),
]
SeveralModels = Annotated[
    list[str] | None,
    typer.Option("-n", "--model", help="Bundled name, or checkpoint file; repeated, several side by side."),
]
OneScale = Annotated[int | None, typer.Option("-s", "--scale", min=1, help="Enlargement; by default 4.")]
FigureFile = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        help="Figure to write: .png, .svg, .pdf. Beside it go the numbers, .json, and what was computed, "
        ".npz: as long as that is there, a figure is drawn again without computing.",
    ),
]
Patterns = Annotated[
    list[str] | None,
    typer.Option("--layer", metavar="NAME", help="Layers by name, as blocks.*.attn; may be repeated."),
]


class Work:
    """An analysis on its way.

    Attributes:
        device: Where it computes.
        store: What was computed before.
    """

    def __init__(self, kind: str, target: Path, device: torch.device) -> None:
        self.device = device
        self.store = Store(target.with_suffix(".npz"))
        self.document: dict[str, Any] = {}
        self._kind, self._target = kind, target

    def finish(self, figure: Any, rows: list[dict[str, Any]], **facts: Any) -> None:
        """Write figure and numbers."""
        save_figure(figure, self._target)
        self.store.close()
        document = record.document(self._kind, rows, **facts)
        numbers = self._target.with_suffix(".json")
        try:
            with whole_file(numbers) as file:
                file.write(f"{to_json(document)}\n".encode())
        except OSError as error:
            raise UsageError(f"{numbers}: cannot be written ({error.strerror})") from error
        print(f"written: {self._target}, {numbers.name}, {self.store.file.name}")
        self.document = document


@contextmanager
def analysis(kind: str, target: Path, as_json: bool, threads: int | None, device: str) -> Iterator[Work]:
    """What is the same for all: refuse what cannot work, and say the numbers where that is wanted."""
    if target.suffix.lower() in (".json", ".npz"):
        raise UsageError(f"{target}: is where the numbers go; name a figure, .png or .svg")
    check_target(target)
    if threads is not None:
        torch.set_num_threads(threads)
    work = Work(kind, target, pick_device(device))
    with for_people(as_json):
        yield work
    if as_json:
        print_json(work.document)


def load(model: str, scale: int | None, device: torch.device) -> Network:
    """A network; a bundled name without its scale is taken at x4, or the next that there is."""
    scales = weights.bundled_scales(model)
    wanted = scale or (4 if 4 in scales else scales[-1] if scales else None)
    return weights.load(model, device, scale=wanted)


def title(network: Network, model: str) -> str:
    """What a figure of a network says above."""
    name = Path(model).stem if Path(model).is_file() else model
    scale = f" x{network.config.scale}"
    return name if network.config.scale is None or name.endswith(scale.replace(" ", "-")) else name + scale


def load_all(
    models: Sequence[str], scale: int | None, device: torch.device
) -> tuple[dict[str, Network], int]:
    """Several networks of one scale, by what figures call them, and that scale; the first one's by default.

    Raises:
        UsageError: Two are called the same.
        WeightsError: As of `weights.load`.
    """
    first = load(models[0], scale, device)
    wanted = scale or first.config.scale or 4
    networks = [first, *(weights.load(model, device, scale=wanted) for model in models[1:])]
    names = [Path(model).stem if Path(model).is_file() else model for model in models]
    if len(set(names)) < len(names):
        names = [*models]
    if len(set(names)) < len(names):
        raise UsageError("the same network twice")
    return dict(zip(names, networks, strict=True)), wanted


class Samples:
    """The pictures of a command, one at a time."""

    def __init__(
        self,
        files: Sequence[Path],
        data: Path | None,
        scale: int,
        limit: int | None,
        names: Sequence[str] = (),
    ) -> None:
        if bool(files) == bool(data):
            raise UsageError("give LR pictures, or a benchmark set as --data DIR")
        self.scale = scale
        if data:
            self._set = find_set(data, scale)
        else:
            self._set = BenchmarkSet("", scale, "", tuple(Item(file.name, None, file) for file in files))
        items = {item.name: item for item in self._set.items}
        if missing := [name for name in names if name not in items]:
            raise UsageError(f"no picture is called {missing[0]}; there are {', '.join([*items][:20])}")
        self._items = [items[name] for name in names] or self._set.items[:limit]
        self.facts = {
            "scale": scale,
            "set": self._set.name or None,
            "pictures": [i.name for i in self._items],
        }

    def quietly(self) -> Iterator[Sample]:
        """All of them, without a word."""
        return map(self._set.load, self._items)

    def __iter__(self) -> Iterator[Sample]:
        show = counter("pictures")
        for done, sample in enumerate(self.quietly()):
            show(done, len(self._items))
            yield sample
        show(len(self._items), len(self._items))
