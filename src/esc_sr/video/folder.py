"""What of a video is done so far, in a folder beside the output, where a run that was broken off goes on."""

import json
import shutil
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from esc_sr import weights
from esc_sr.errors import VideoError
from esc_sr.machine.claim import whole_file
from esc_sr.video.segments import Segment

if TYPE_CHECKING:
    from esc_sr.upscaling.engine import Upscaler

MOST_THREADS = 16
"""Of an encoder."""

_MANIFEST = "manifest.json"


def network_facts(model: str, upscaler: "Upscaler", engine: str) -> dict[str, Any]:
    """What the results of a network depend on: the files that a name stands for, and how it is run.

    Raises:
        WeightsError: There is no such model.
    """
    denoise = upscaler.denoise
    scales: list[int | None] = [*weights.bundled_scales(model, denoise)]
    files = [file for scale in scales or [None] for file in weights.files_of(model, scale, denoise)]
    return {
        "model": sha256(b"".join(file.read_bytes() for file in files)).hexdigest(),
        "size": str(upscaler.size),
        "device": str(upscaler.device),
        "precision": upscaler.precision,
        "engine": engine,
        "self_ensemble": upscaler.self_ensemble,
        "denoise": denoise,
    }


class WorkFolder:
    """`OUTPUT.part/`: a manifest of what is made, pieces that are done, and frames of the one that is not.

    A piece counts when its description (.json) is there, which is written last. What is not described is
    made again.

    Attributes:
        path: The folder.
        known: Pieces that were there, by their number.
    """

    def __init__(self, target: Path, facts: dict[str, Any], anew: bool = False) -> None:
        """Make the folder, or take up the one that is there.

        Args:
            target: The output.
            facts: Everything that the result depends on.
            anew: Throw away what is there, unless a run that was to begin anew has begun just this.

        Raises:
            VideoError: What is there is of another run, or the disk refuses.
        """
        self.path = _folder_of(target)
        self.known: dict[int, Segment] = {}
        try:
            found = _found(self.path)
            if anew and (not found.get("anew") or _differing(facts, found)):
                shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(exist_ok=True)
            self._agree(facts, anew)
        except OSError as error:
            with suppress(OSError):  # if it is empty
                self.path.rmdir()
            raise VideoError(f"{self.path}: cannot be written ({error.strerror})") from error
        for place in range(len(list(self.path.glob("*.json")))):
            segment = self._read(place)
            if segment is not None:
                self.known[place] = segment

    def _agree(self, facts: dict[str, Any], anew: bool) -> None:
        """Refuse a manifest of other facts; it is written where there is none."""
        manifest = self.path / _MANIFEST
        if not manifest.exists():
            self._write(manifest, facts | {"anew": anew})
        elif differ := _differing(facts, _found(self.path)):
            raise VideoError(
                f"{self.path}: holds the beginning of another run, which differs in {', '.join(differ)}; "
                "--overwrite begins anew, or remove the folder"
            )

    def _write(self, path: Path, value: Any) -> None:
        """Write a file of JSON, whole or not at all."""
        with whole_file(path) as file:
            file.write(json.dumps(value).encode())

    def packets(self, place: int) -> Path:
        """The file for the packets of a piece."""
        return self.path / f"{place:06}.piece"

    def _read(self, place: int) -> Segment | None:
        """A piece that is done, or None."""
        path = self.packets(place)
        try:
            found = json.loads(path.with_suffix(".json").read_text())
            if path.stat().st_size == found["bytes"]:
                return Segment(path, tuple(found["pts"]), found["depth"], found["repeated"])
        except (OSError, ValueError, KeyError):
            pass
        return None

    def done(self, place: int, segment: Segment) -> None:
        """Let a piece count, and drop its frames.

        Raises:
            VideoError: The disk refuses.
        """
        described = {
            "bytes": segment.path.stat().st_size,
            "pts": segment.pts,
            "depth": segment.depth,
            "repeated": segment.repeated,
        }
        try:
            self._write(segment.path.with_suffix(".json"), described)
        except OSError as error:
            raise VideoError(f"{self.path}: cannot be written ({error.strerror})") from error
        for frame in self.path.glob("*.npy"):
            frame.unlink(missing_ok=True)

    def keep(self, index: int, pixels: NDArray[Any]) -> None:
        """Keep a frame of the piece that is not done, by its number.

        Raises:
            VideoError: The disk refuses.
        """
        try:
            with whole_file(self._frame(index)) as file:
                np.save(file, pixels, allow_pickle=False)
        except OSError as error:
            raise VideoError(f"{self.path}: a frame cannot be kept ({error.strerror})") from error

    def kept(self, index: int) -> NDArray[Any] | None:
        """A frame that was kept, or None."""
        try:
            pixels: NDArray[Any] = np.load(self._frame(index), allow_pickle=False)
            return pixels
        except (OSError, ValueError, EOFError):
            return None

    def _frame(self, index: int) -> Path:
        """The file for a frame."""
        return self.path / f"frame{index:08}.npy"

    @property
    def holds(self) -> bool:
        """Whether something in it would not be made again."""
        return any(self.path.glob("[0-9]*.json")) or any(self.path.glob("*.npy"))

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def threads_of(target: Path) -> int | None:
    """Of the encoder of a run for this output that was broken off, if there was one."""
    found = _found(_folder_of(target)).get("threads")
    return found if isinstance(found, int) and 1 <= found <= MOST_THREADS else None


def _folder_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _found(folder: Path) -> dict[str, Any]:
    """What the manifest says; nothing where there is none, or one that cannot be read."""
    try:
        found = json.loads((folder / _MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _differing(facts: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """In which facts a run differs from what a manifest says."""
    wanted = json.loads(json.dumps(facts))
    return [key for key in wanted if found.get(key) != wanted[key]]
