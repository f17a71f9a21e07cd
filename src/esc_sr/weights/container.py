"""Weights files as named tensors: opened without running code from them, written atomically."""

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from esc_sr.errors import WeightsError
from esc_sr.machine.claim import whole_file

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
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise WeightsError(f"{path}: is empty; fetch it again")
    if text := _kind_of_text(data[:4096]):
        raise WeightsError(f"{path}: {text}, and no checkpoint (.safetensors, .pth or .pt)")
    content: Mapping[Any, Any]
    if data[8:9] == b"{":
        try:
            content, place = safetensors.torch.load(data), "safetensors"
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise WeightsError(
                f"{path}: safetensors file, but damaged ({first_line(error)}); fetch it again"
            ) from error
    else:
        content, place = _unwrap(_unpickle(path), path)
    tensors = {
        str(k): v.detach() for k, v in content.items() if isinstance(v, Tensor) and not JUNK.fullmatch(str(k))
    }
    if not tensors:
        raise WeightsError(f"{path}: a checkpoint without weights; its entries are {_first(content)}")
    return _strip(tensors), place


def read_header(path: Path) -> dict[str, str]:
    """Read the metadata of a .safetensors file; empty where there is none or the file is of another kind."""
    try:
        with open(path, "rb") as file:
            start = file.read(9)
            if start[8:] != b"{":
                return {}
            header = json.loads(b"{" + file.read(int.from_bytes(start[:8], "little") - 1))
    except (OSError, ValueError, OverflowError) as error:
        raise WeightsError(f"{path}: cannot be read ({first_line(error)})") from error
    return dict(header.get("__metadata__") or {})


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


def _kind_of_text(start: bytes) -> str | None:
    """What kind of text a file is by its first bytes, if it is text at all."""
    text = start.decode("utf-8", errors="ignore")
    if len(start) < 16 or len(text.encode()) < len(start) - 3 or re.search(r"[\0-\x08\x0e-\x1f]", text):
        return None
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
    raise WeightsError(f"{path}: no checkpoint, it holds a {type(content).__name__} instead of named tensors")


def _strip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that all names share."""
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _first(names: Mapping[Any, Any]) -> str:
    """The first few names, for a message."""
    return ", ".join(str(name) for name in list(names)[:4]) or "none"


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its name where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
