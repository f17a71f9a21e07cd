"""`esc-sr analyze`: the paper's analyses as figures, with the numbers beside them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from esc_sr import record, weights
from esc_sr.analysis import similarity as similarities
from esc_sr.analysis.store import Store, key_of
from esc_sr.cli.options import Device, Threads
from esc_sr.cli.output import AsJson, for_people, print_json, to_json
from esc_sr.cli.report import counter
from esc_sr.data.sets import BenchmarkSet, Item, Sample, find_set
from esc_sr.errors import UsageError
from esc_sr.families.contract import Network
from esc_sr.figure import check_target, save_figure
from esc_sr.machine.claim import whole_file
from esc_sr.machine.device import pick_device

app = typer.Typer(no_args_is_help=True)

LrFiles = Annotated[
    list[Path] | None, typer.Argument(metavar="[PICTURE ...]", help="LR pictures, as they are.")
]
SetFolder = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of a benchmark set, whose LR is found or made as in evaluate."),
]
OneModel = Annotated[str, typer.Option("-n", "--model", help="Bundled name, or checkpoint file.")]
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


@app.callback()
def main() -> None:
    """Look into networks as the paper does (Figures 2 and 5 to 9, Table 3)."""


@app.command()
def similarity(
    files: LrFiles = None,
    data: SetFolder = None,
    model: OneModel = "esc-light",
    scale: OneScale = None,
    output: FigureFile = Path("similarity.png"),
    layer: Patterns = None,
    pixels: Annotated[
        int, typer.Option(min=2, help="Pixels of a picture that are compared, at most.")
    ] = similarities.PIXELS,
    limit: Annotated[int | None, typer.Option(min=1, help="Pictures, at most.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Compare layers by CKA and cosine: what they add to the skip path; attention maps (Figures 2, 6)."""
    with _analysis("similarity", output, as_json, threads, device) as job:
        network = _load(model, scale, job.device)
        samples = _Samples(files or [], data, network.config.scale or scale or 4, limit)
        options: dict[str, Any] = {"patterns": layer or [], "scale": samples.scale, "pixels": pixels}
        key = key_of("similarity", network, options, *(sample.lr for sample in samples.quietly()))

        def compute() -> dict[str, NDArray[Any]]:
            lr = (sample.lr for sample in samples)
            found = similarities.measure(network, lr, **options)
            return {
                f"{kind}:{name}": np.array(part)
                for kind, s in found.items()
                for name, part in s._asdict().items()
            }

        arrays = job.store.get(key, compute)
        kinds = dict.fromkeys(path.rpartition(":")[0] for path in arrays)
        found = {
            kind: similarities.Similarity(
                tuple(map(str, arrays[f"{kind}:layers"])), arrays[f"{kind}:cka"], arrays[f"{kind}:cosine"]
            )
            for kind in kinds
        }
        rows = [
            {
                "what": kind,
                "layers": list(one.layers),
                "mean_cka": one.mean("cka"),
                "mean_cosine": one.mean("cosine"),
                "cka": one.cka.tolist(),
                "cosine": one.cosine.tolist(),
            }
            for kind, one in found.items()
        ]
        for row in rows:
            print(f"{row['what']}: mean CKA {row['mean_cka']:.3f}, mean cosine {row['mean_cosine']:.3f}")
        job.finish(
            similarities.draw(found, f"{Path(model).stem} x{samples.scale}"),
            rows,
            model=model,
            **samples.facts,
        )


@dataclass
class _Job:
    """An analysis on its way: where it computes and what it writes."""

    kind: str
    target: Path
    device: torch.device
    store: Store
    as_json: bool

    def finish(self, figure: Any, rows: list[dict[str, Any]], **facts: Any) -> None:
        """Write figure and numbers."""
        save_figure(figure, self.target)
        self.store.close()
        document = record.document(self.kind, rows, **facts)
        numbers = self.target.with_suffix(".json")
        try:
            with whole_file(numbers) as file:
                file.write(f"{to_json(document)}\n".encode())
        except OSError as error:
            raise UsageError(f"{numbers}: cannot be written ({error.strerror})") from error
        print(f"written: {self.target}, {numbers.name}, {self.store.file.name}")
        self.document = document


@contextmanager
def _analysis(kind: str, target: Path, as_json: bool, threads: int | None, device: str) -> Iterator[_Job]:
    """What is the same for all: refuse what cannot work, and say the numbers where that is wanted."""
    if target.suffix.lower() in (".json", ".npz"):
        raise UsageError(f"{target}: is where the numbers go; name a figure, .png or .svg")
    check_target(target)
    if threads is not None:
        torch.set_num_threads(threads)
    job = _Job(kind, target, pick_device(device), Store(target.with_suffix(".npz")), as_json)
    with for_people(as_json):
        yield job
    if as_json:
        print_json(job.document)


def _load(model: str, scale: int | None, device: torch.device) -> Network:
    """A network; a bundled name without its scale is taken at x4, or the next that there is."""
    scales = weights.bundled_scales(model)
    wanted = scale or (4 if 4 in scales else scales[-1] if scales else None)
    return weights.load(model, device, scale=wanted)


class _Samples:
    """The pictures of a command, one at a time."""

    def __init__(self, files: Sequence[Path], data: Path | None, scale: int, limit: int | None) -> None:
        if bool(files) == bool(data):
            raise UsageError("give LR pictures, or a benchmark set as --data DIR")
        self.scale = scale
        if data:
            self._set = find_set(data, scale)
        else:
            self._set = BenchmarkSet("", scale, "", tuple(Item(file.name, None, file) for file in files))
        self._items = self._set.items[:limit]
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
