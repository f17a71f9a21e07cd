"""A checkpoint, whoever wrote it, as a config and tensors of our names; and our own file format."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from esc_sr import families
from esc_sr.errors import WeightsError
from esc_sr.families.contract import Config, Network
from esc_sr.families.family import Detected, Family, ForeignError, identity
from esc_sr.weights.container import read_tensors, some_names, write_atomically
from esc_sr.weights.facts import first_line, read_card, read_header
from esc_sr.weights.nearest import nearest

FORMAT = "esc-sr 1"
HASH = "hash"
"""Entry of the header with the SHA-256 of all that a file of ours holds; older ones have none."""

DTYPES = (
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
)
"""What numbers of weights may be."""

MANY = 16
"""Layers and parameters, for each tensor of a file, of the largest network that it is compared with."""


class UnknownNetworkError(WeightsError):
    """A file, whole as far as is known, of a network that no family here can load.

    Attributes:
        path: The file.
        tensors: All in it, by their names there.
    """

    def __init__(self, path: Path, tensors: Mapping[str, Tensor], message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path, self.tensors = path, tensors


@dataclass(frozen=True)
class Checkpoint:
    """Weights of one network, checked against the network's parameters.

    Attributes:
        config: Sizes of the network.
        state: Tensors by our names, in the precision they were stored in.
        dialect: Whose names the file has: "esc-sr", "authors" (neosr's are the same) or "traiNNer-redux".
            Of families that keep their authors' names, whose format.
        place: Where in the file the weights were: "safetensors", or the wrappers in a pickle, or "bare".
        card: What is known of the training; our own files only.
    """

    config: Config
    state: dict[str, Tensor]
    dialect: str = "esc-sr"
    place: str = "safetensors"
    card: dict[str, Any] | None = None


def save(
    model: nn.Module,
    path: str | Path,
    card: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a network as safetensors, with its sizes and card in the header, atomically.

    Args:
        model: The network, or what wraps one: engine "torch", `torch.compile`, `nn.DataParallel`.
        path: File to write; an existing one is replaced.
        card: What is known of its training, anything JSON holds.
        dtype: Store the parameters in this type instead of their own, for example torch.float16.

    Raises:
        WeightsError: As of `write`, or there is no network of a family here.
    """
    kinds = tuple(family.network for family in families.FAMILIES)
    network = next((module for module in model.modules() if isinstance(module, kinds)), None)
    if network is None:
        raise WeightsError(
            f"{path}: not written, since {type(model).__name__} has no weights of a family here"
        )
    parameters = {name for name, _ in network.named_parameters()}
    state = {
        name: value.to(dtype) if dtype and name in parameters else value
        for name, value in network.state_dict().items()
    }
    write(Checkpoint(network.config, state, card=None if card is None else dict(card)), Path(path))


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint in our format, as it is.

    Raises:
        WeightsError: The file cannot be written, or not all weights are finite; one that was there is intact.
    """
    if broken := [name for name, value in checkpoint.state.items() if not is_finite(value)]:
        raise WeightsError(f"{path}: not written, since not all is a finite number in {some_names(broken)}")
    metadata = header(checkpoint.config)
    if checkpoint.card is not None:
        metadata["card"] = json.dumps(checkpoint.card)
    tensors = apart(checkpoint.state)
    metadata[HASH] = _hash(metadata, tensors)
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU, each in memory of its own and in the usual order, as safetensors wants them."""
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in state.items()
    }


def header(config: Config) -> dict[str, str]:
    """What our files hold of the sizes of a network, which `read_config` reads."""
    kind = families.family_of(config).kind
    return {"format": FORMAT, "kind": kind, "config": json.dumps(config.sizes())}


def read(path: Path) -> Checkpoint:
    """Read a checkpoint of any dialect and check that it is whole.

    Raises:
        WeightsError: The file is missing, damaged, of another network, lacks tensors or has too many, or has
            weights that are not finite.
    """
    tensors, place = read_tensors(path)
    facts = read_header(path) if place == "safetensors" else {}
    if "format" in facts and "config" in facts:
        config = read_config(facts, path)
        if HASH in facts and facts[HASH] != _hash(facts, tensors):
            raise WeightsError(f"{path}: damaged, it is not what was written by its hash; fetch it again")
        if families.family_of(config).tensors_tell:
            _confirm(config, tensors, path)
        found = Detected(config, identity(tensors), dialect="esc-sr")
    else:
        tensors = _with_other_half(tensors, path)
        found = _detect(tensors, path)
    return _checked(found, tensors, path, place, read_card(facts, path))


def recognise(tensors: Mapping[str, Tensor], path: Path) -> Checkpoint:
    """Tell what tensors are that others have read, in their own names; `path` is for messages.

    Raises:
        WeightsError: As of `read`.
    """
    return _checked(_detect(tensors, path), tensors, path, "bare")


def _checked(
    found: Detected,
    tensors: Mapping[str, Tensor],
    path: Path,
    place: str,
    card: dict[str, Any] | None = None,
) -> Checkpoint:
    """A checkpoint whose tensors are those of the network, and finite."""
    state = {**found.constants, **{ours: tensors[name] for name, ours in found.names.items()}}
    _check(found, state, path)
    if broken := [name for name, ours in found.names.items() if not is_finite(state[ours])]:
        raise WeightsError(
            f"{path}: damaged, or of a training that failed: not all is a finite number in {len(broken)} of "
            f"{len(state)} tensors ({some_names(broken)})"
        )
    return Checkpoint(found.config, state, found.dialect, place, card)


def build(checkpoint: Checkpoint) -> Network:
    """Build the network around the tensors of a checkpoint, without copying them."""
    with torch.random.fork_rng(devices=[]):  # draws no random numbers from the caller's generator
        model = families.build(checkpoint.config)
    model.load_state_dict(checkpoint.state, assign=True)
    return model


def read_config(facts: Mapping[str, str], path: Path) -> Config:
    """Read the sizes from the header of one of our files; they are yet to be compared with its tensors.

    Raises:
        WeightsError: It is not a header that this version understands.
    """
    if facts["format"] != FORMAT:
        raise WeightsError(f"{path}: has the format {facts['format']!r}, not {FORMAT!r}; update esc-sr")
    try:
        return families.of_kind(facts["kind"]).config.of_sizes(json.loads(facts["config"]))
    except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise WeightsError(
            f"{path}: the sizes in its header cannot be read ({error}); fetch it again"
        ) from error


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers of a tensor are finite in float32."""
    return bool(tensor.float().isfinite().all())


def _hash(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256, in hexadecimal, of a header, of names, types and shapes, and of all numbers."""
    facts = {key: value for key, value in header.items() if key != HASH}
    names = sorted(tensors)
    shapes = [(name, str(tensors[name].dtype), list(tensors[name].shape)) for name in names]
    found = hashlib.sha256(json.dumps([facts, shapes], sort_keys=True).encode())
    for name in names:
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _with_other_half(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """All tensors of a network whose parts are published in two files, side by side; others as they are."""
    for family in families.FAMILIES:
        if half := family.half(tensors, path.name):
            other = path.with_name(half.other)
            if other == path or not other.exists():
                where = (
                    "whose name does not follow from this one's" if other == path else "which is not there"
                )
                raise WeightsError(
                    f"{path}: is one part of {family.name}; the other is in a file beside it, {where}"
                )
            found, _ = read_tensors(other)
            joined = {half.prefix + name: tensor for name, tensor in tensors.items()}
            return joined | {half.other_prefix + name: tensor for name, tensor in found.items()}
    return tensors


def _confirm(config: Config, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse sizes of a header that the tensors do not show: nothing larger is ever built."""
    shown = _ask(families.family_of(config), tensors, path)
    if shown is None or shown.config != config:
        seen = families.describe(shown.config) if shown else "another network"
        raise WeightsError(
            f"{path}: its header tells of {families.describe(config)}, its tensors are those of {seen}; "
            "fetch it again"
        )


def _detect(tensors: Mapping[str, Tensor], path: Path) -> Detected:
    """Find the network that names and shapes show."""
    for family in families.FAMILIES:
        if found := _ask(family, tensors, path):
            return found
    some = some_names(tensors)
    near = "".join(f"; near is {one}" for one in nearest(tensors))
    told = f"no network that is known here; it has {len(tensors)} tensors: {some}{near}"
    raise UnknownNetworkError(path, tensors, told)


def _ask(family: Family, tensors: Mapping[str, Tensor], path: Path) -> Detected | None:
    """`Family.detect`, its errors in one line."""
    recognised = f"{path}: recognised as {family.name}, but"
    try:
        return family.detect(tensors)
    except ForeignError as error:
        raise UnknownNetworkError(path, tensors, _refusal(str(error))) from error
    except KeyError as error:
        raise WeightsError(f"{recognised} tensors are missing (1: {error.args[0]})") from error
    except (ValueError, IndexError, ArithmeticError, RuntimeError) as error:
        raise WeightsError(f"{recognised} {first_line(error)}") from error


def _refusal(network: str) -> str:
    """What is said of a network that cannot be loaded."""
    known = ", ".join(family.name for family in families.FAMILIES)
    return f"is {network}, which cannot be loaded; those of {known} can"


def _check(found: Detected, state: Mapping[str, Tensor], path: Path) -> None:
    """Compare all tensors, by our names, with the network's parameters."""
    config, names = found.config, found.names
    try:
        wanted = families.blank(config, MANY * (1 + len(state))).state_dict()
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:  # RecursionError too
        raise WeightsError(f"{path}: no network has the sizes it tells ({first_line(error)})") from error
    theirs: dict[str, str] = {}
    if any(name != ours for name, ours in names.items()):
        theirs = families.family_of(config).official_names(config, wanted)
    theirs |= {ours: name for name, ours in names.items()}
    faults = {
        "missing": [theirs.get(name, name) for name in wanted if name not in state],
        "unexpected": [theirs[name] for name in state if name not in wanted],
        "of another kind": [
            f"{theirs[name]} {_kind(state[name])} for {_kind(wanted[name])}"
            for name in wanted
            if name in state and (state[name].shape != wanted[name].shape or state[name].dtype not in DTYPES)
        ],
    }
    problems = [f"{how} ({len(what)}: {some_names(what)})" for how, what in faults.items() if what]
    if problems:
        raise WeightsError(
            f"{path}: recognised as {families.describe(config)}, but tensors are {', '.join(problems)}"
        )


def _kind(tensor: Tensor) -> str:
    """Type and shape, for a message."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
