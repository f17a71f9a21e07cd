"""Weights files as named tensors: opened without running code from them, written atomically."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from esc_sr.errors import WeightsError
from esc_sr.machine.claim import whole_file
from esc_sr.machine.memory import show_memory
from esc_sr.weights.facts import first_line

# Where trainers keep the weights, best first; `model` with `sd` inside is LTE's, `ema` that of our own runs.
WRAPPERS = (
    "params_ema",
    "params-ema",
    "ema",
    "params",
    "model_state_dict",
    "state_dict",
    "model",
    "net",
    "net_g",
    "sd",
)
PREFIXES = ("module.", "_orig_mod.", "generator.", "netG.", "net_g.", "model.", "net.")
DEEPEST = 8
"""Wrappers inside each other; more are a file made to confuse."""
PACKED = 16
"""How much larger a file may become when it is unpacked; PyTorch packs nothing, and weights hardly can be."""
JUNK = re.compile(r"(.*\.)?(total_ops|total_params|num_batches_tracked|n_averaged|step|initted)")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """Read the tensors of a .safetensors, .pth or .pt file, told apart by content.

    Args:
        path: File to read; of a pickle, nothing but tensors, numbers, strings and containers is built.

    Returns:
        Tensors by name, freed from wrappers, prefixes and counters; and where they were: "safetensors", or
        the wrappers of a pickle ("params_ema", "model.sd"), "bare" without one.

    Raises:
        WeightsError: The file is missing, damaged, no checkpoint, or holds code.
    """
    start, size = _start(path)
    content: Mapping[Any, Any]
    if start[8:9] == b"{":
        content, place = _load_safetensors(path), "safetensors"
    else:
        if start.startswith(b"PK\3\4"):  # as torch decides
            size = _archive_size(path)
        elif not start.startswith(b"\x80"):  # the pickles of torch before 1.6
            raise WeightsError(f"{path}: no checkpoint, or damaged (none begins so)")
        content, place = _unwrap(_unpickle(path), path)
    tensors = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor) and not JUNK.fullmatch(name)
    }
    if not tensors:
        raise WeightsError(f"{path}: a checkpoint without weights; its entries are {some_names(content, 4)}")
    _check_numbers(tensors, size, path)
    return _strip({name: tensor.detach() for name, tensor in tensors.items()}), place


def check_archive(path: Path) -> int:
    """Compare what a zip file holds with its check sums, which torch does not do.

    Args:
        path: A .pth or .pt file, as torch writes them.

    Returns:
        How many bytes it holds, unpacked.

    Raises:
        ValueError: It is damaged, or holds far more than its own size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            too_much = size > PACKED * path.stat().st_size
            broken = None if too_much else archive.testzip()
    except Exception as error:  # whatever a damaged file makes zipfile raise
        raise ValueError(first_line(error)) from error
    if too_much:
        raise ValueError(f"it would unpack to {show_memory(size)}, as no checkpoint does")
    if broken:
        raise ValueError(f"the check sum of {broken} is another")
    return size


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        WeightsError: The file cannot be written.
    """
    try:
        with whole_file(path) as file:
            file.write(data)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written ({error.strerror}); nothing was changed") from error


def _start(path: Path) -> tuple[bytes, int]:
    """The first bytes of a file that may be a checkpoint, and its size."""
    try:
        with open(path, "rb") as file:
            start, size = file.read(4096), path.stat().st_size
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    if not start:
        raise WeightsError(f"{path}: is empty; fetch it again")
    if text := _kind_of_text(start):
        raise WeightsError(f"{path}: {text}, and no checkpoint (.safetensors, .pth or .pt)")
    return start, size


def _archive_size(path: Path) -> int:
    try:
        return check_archive(path)
    except ValueError as error:
        raise WeightsError(f"{path}: no checkpoint, or damaged ({error}); fetch it again") from error


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{path}: safetensors file, but damaged ({first_line(error)}); fetch it again"
        ) from error


def _check_numbers(tensors: Mapping[str, Tensor], size: int, path: Path) -> None:
    """Refuse tensors that are not simply numbers, each in the file."""
    for name, tensor in tensors.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not plain or tensor.is_quantized or tensor.is_nested:
            raise WeightsError(f"{path}: {some_names([name])} is no tensor of plain numbers, as weights are")
        if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            raise WeightsError(f"{path}: {some_names([name])} has more numbers than the file; fetch it again")
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > size:
        raise WeightsError(f"{path}: its tensors have more numbers than the file; fetch it again")


def _kind_of_text(start: bytes) -> str | None:
    """What kind of text a file is by its first bytes, if it is text at all."""
    text = start.decode("utf-8", errors="ignore")
    lost = len(start) - len(text.encode())  # the last character may be cut off
    if len(start) < 4 or lost > min(3, len(start) // 4) or re.search(r"[\0-\x08\x0e-\x1f]", text):
        return None  # less than 4 bytes may be left of a checkpoint
    if re.match(r"\s*<(!doctype html|html)", text, re.IGNORECASE):
        return "a web page, such as servers send in place of a file"
    if text.startswith("version https://git-lfs"):
        return "a pointer of Git LFS, which `git lfs pull` replaces by the file"
    return "a text file"


def _unpickle(path: Path) -> Any:
    """What torch finds in a pickle without calling anything from it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)|Unsupported class (\S+)", str(error))
        if found is None:
            raise WeightsError(f"{path}: no checkpoint, or damaged; fetch it again") from error
        what = found[1] or found[2]
        raise WeightsError(
            f"{path}: refused, it holds more than tensors ({what}), which could run code; "
            "ask for a safetensors file"
        ) from error
    except Exception as error:  # whatever a damaged file makes torch raise
        raise WeightsError(
            f"{path}: no checkpoint, or damaged ({first_line(error)}); fetch it again"
        ) from error


def _unwrap(content: Any, path: Path) -> tuple[Mapping[Any, Any], str]:
    """Descend to the innermost state dict; also the names of the wrappers passed."""
    wrappers: list[str] = []
    while isinstance(content, Mapping):
        inner = next((w for w in WRAPPERS if isinstance(content.get(w), Mapping) and content[w]), None)
        if inner is None:
            return content, ".".join(wrappers) or "bare"
        content = content[inner]
        wrappers.append(inner)
        if len(wrappers) > DEEPEST:
            raise WeightsError(f"{path}: no checkpoint, but wrappers inside each other without an end")
    raise WeightsError(f"{path}: no checkpoint, it holds a {type(content).__name__} instead of named tensors")


def _strip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that all names share."""
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def some_names(names: Iterable[object], most: int = 3) -> str:
    """The first few names, cut where they are long, for a message."""
    shown = [name[:160] for name in names if isinstance(name, str)]
    return (", ".join(shown[:most]) + (", ..." if len(shown) > most else "")) or "none"
