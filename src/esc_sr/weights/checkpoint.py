"""A checkpoint, whoever wrote it, as a config and tensors of our names; and our own file format."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from esc_sr.errors import UsageError, WeightsError
from esc_sr.families import FAMILIES, Peer, PeerConfig
from esc_sr.families.contract import Shapes
from esc_sr.families.esc import ESC, ESCConfig, detect, keys
from esc_sr.families.esc.presets import PRESETS, preset
from esc_sr.families.lte import ESCLTE, LTEConfig
from esc_sr.weights import families
from esc_sr.weights.container import first_line, read_header, read_tensors, write_atomically

FORMAT = "esc-sr 1"

Config = ESCConfig | LTEConfig | PeerConfig
"""Sizes of a network, which tell what network it is."""

Network = ESC | ESCLTE | Peer
"""What weights become."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights of one network, checked against the network's parameters.

    Attributes:
        config: Sizes of the network.
        state: Tensors by our names, in the precision they were stored in.
        dialect: Whose names the file has: "esc-sr", "authors" (neosr's are the same) or "traiNNer-redux".
            Of the other families, which keep their authors' names, whose format.
        place: Where in the file the weights were: "safetensors", or the wrappers in a pickle, or "bare".
        card: What is known of the training; our own files only.
    """

    config: Config
    state: dict[str, Tensor]
    dialect: str = "esc-sr"
    place: str = "safetensors"
    card: dict[str, Any] | None = None


def save(
    model: Network,
    path: str | Path,
    card: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a network as safetensors, with its sizes and card in the header, atomically.

    Args:
        model: The network.
        path: File to write; an existing one is replaced.
        card: What is known of its training, anything JSON holds.
        dtype: Store the parameters in this type instead of their own, for example torch.float16.

    Raises:
        WeightsError: The file cannot be written.
    """
    parameters = {name for name, _ in model.named_parameters()}
    state = {
        name: value.to(dtype) if dtype and name in parameters else value
        for name, value in model.state_dict().items()
    }
    write(Checkpoint(model.config, state, card=None if card is None else dict(card)), Path(path))


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint in our format, as it is.

    Raises:
        WeightsError: The file cannot be written.
    """
    config = checkpoint.config
    kind = "esc-lte" if isinstance(config, LTEConfig) else "esc"
    kind = families.family_of(config).kind if isinstance(config, PeerConfig) else kind
    metadata = {"format": FORMAT, "kind": kind, "config": json.dumps(asdict(config))}
    if checkpoint.card is not None:
        metadata["card"] = json.dumps(checkpoint.card)
    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.state.items()}
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def read(path: Path) -> Checkpoint:
    """Read a checkpoint of any dialect and check that it is whole.

    Raises:
        WeightsError: The file is missing, damaged, of another network, or lacks tensors or has too many.
    """
    tensors, place = read_tensors(path)
    header = read_header(path) if place == "safetensors" else {}
    if "format" in header and "config" in header:
        config = read_config(header, path)
        dialect, names = "esc-sr", {name: name for name in tensors}
        if isinstance(config, PeerConfig):
            config = _confirm(config, tensors, path)
    elif family := families.recognise(tensors):
        config = families.infer(family, tensors, path)
        dialect, names = "authors", {name: name for name in tensors}
    else:
        dialect, names, enlargement = _recognise(tensors, path)
        config = _infer(
            {names[name]: tuple(t.shape) for name, t in tensors.items()}, enlargement, names, path
        )
    state = {names[name]: tensor for name, tensor in tensors.items()}
    _check(config, state, names, path)
    return Checkpoint(config, state, dialect, place, read_card(header, path))


def build(checkpoint: Checkpoint) -> Network:
    """Build the network around the tensors of a checkpoint, without copying them."""
    model = _fresh(checkpoint.config)
    model.load_state_dict(checkpoint.state, assign=True)
    return model


def variant(config: Config) -> str | None:
    """Name the preset, or the published network, that has these sizes, if any."""
    if isinstance(config, PeerConfig):
        return families.family_of(config).published.get(config)
    if isinstance(config, LTEConfig):
        return "esc-lte" if config == LTEConfig(PRESETS["esc-lte"]) else None
    for name in PRESETS:
        try:
            if preset(name, config.scale) == config:
                return name
        except UsageError:  # a preset without this scale
            continue
    return None


def describe(config: Config) -> str:
    """Say in a few words what network this is."""
    if isinstance(config, PeerConfig):
        return families.family_of(config).describe(config)
    if isinstance(config, LTEConfig):
        return (
            variant(config) or f"ESC+LTE of {config.encoder.dim} channels, {config.encoder.n_blocks} blocks"
        )
    family = "ESC-FP" if config.decomposed else "ESC-Real" if config.skip == "conv" else "ESC"
    name = variant(config) or f"{family} of {config.dim} channels, {config.n_blocks} blocks"
    return f"{name} x{config.scale}"


def read_card(header: Mapping[str, str], path: Path) -> dict[str, Any] | None:
    """Read the training card from the header of one of our files, None where there is none.

    Raises:
        WeightsError: The card is damaged.
    """
    if "format" not in header or "card" not in header:
        return None
    try:
        card: dict[str, Any] = json.loads(header["card"])
    except ValueError as error:
        raise WeightsError(f"{path}: its card cannot be read ({error}); fetch it again") from error
    return card


def read_config(header: Mapping[str, str], path: Path) -> Config:
    """Read the sizes from the header of one of our files; of another family's, they are yet to be confirmed.

    Raises:
        WeightsError: It is not a header that this version understands.
    """
    if header["format"] != FORMAT:
        raise WeightsError(f"{path}: has the format {header['format']!r}, not {FORMAT!r}; update esc-sr")
    try:
        sizes = json.loads(header["config"])
        if header["kind"] == "esc":
            return ESCConfig(**sizes)
        for family in FAMILIES:
            if header["kind"] == family.kind:
                return family.config(**sizes)
        sizes["encoder"] = ESCConfig(**sizes["encoder"])
        sizes["mlp"] = tuple(sizes["mlp"])
        return LTEConfig(**sizes)
    except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise WeightsError(
            f"{path}: the sizes in its header cannot be read ({error}); fetch it again"
        ) from error


def _confirm(config: PeerConfig, tensors: Mapping[str, Tensor], path: Path) -> PeerConfig:
    """The sizes that the tensors show, if the header tells the same: nothing larger is ever built."""
    shown = families.infer(families.family_of(config), tensors, path)
    if shown != config:
        raise WeightsError(
            f"{path}: its header tells of {describe(config)}, its tensors are those of {describe(shown)}; "
            "fetch it again"
        )
    return shown


def _fresh(config: Config) -> Network:
    """Build a network to be filled, and draw no random numbers from the caller's generator."""
    with torch.random.fork_rng(devices=[]):
        if isinstance(config, PeerConfig):
            return families.fresh(config)
        return ESCLTE(config) if isinstance(config, LTEConfig) else ESC(config)


def _recognise(tensors: dict[str, Tensor], path: Path) -> tuple[str, dict[str, str], int | None]:
    """Find dialect, our names by the file's, and the enlargement if MetaUpsample, then removed, tells it."""
    network = detect.foreign(tensors)
    meta = tensors.pop(detect.META_NAME, None)
    values = [] if meta is None else [int(value) for value in meta.flatten().tolist()]
    network = network or (detect.foreign_upsampler(values) if values else None)
    if network:
        others = ", ".join(family.name for family in FAMILIES)
        raise WeightsError(
            f"{path}: is {network}, which cannot be loaded; ESC and its variants can, {others} too"
        )
    bare = {name.removeprefix("encoder.") for name in tensors}
    if bare & {"large_kernel.weight", "large_kernel.spatial"}:
        return "esc-sr", {name: name for name in tensors}, None
    if not bare & {"plk_filter", "lk_spatial"}:
        some = _some(list(tensors))
        raise WeightsError(f"{path}: no network that is known here; it has {len(tensors)} tensors: {some}")
    known = keys.to_ours(tensors, keys.traits_of_names(tensors))
    names = {name: known.get(name, f"?{name}") for name in tensors}
    return (detect.META_VERSIONS[values[0]] if values else "authors"), names, (values[2] if values else None)


def _infer(
    shapes: Shapes, enlargement: int | None, names: Mapping[str, str], path: Path
) -> ESCConfig | LTEConfig:
    """Infer the sizes, or say in the file's own words what they cannot be inferred from."""
    try:
        return detect.infer(shapes, enlargement)
    except KeyError as error:
        ours = str(error.args[0])
        same = all(name == our for name, our in names.items())
        missing = ours if same else keys.to_official([ours], keys.traits_of_names(names)).get(ours, ours)
        raise WeightsError(
            f"{path}: recognised as an ESC network, but tensors are missing (1: {missing})"
        ) from error
    except (ValueError, IndexError, ArithmeticError, RuntimeError) as error:
        raise WeightsError(f"{path}: recognised as an ESC network, but {first_line(error)}") from error


def _check(config: Config, state: Mapping[str, Tensor], names: Mapping[str, str], path: Path) -> None:
    """Compare all tensors with the network's parameters; `names` are ours by those in the file."""
    try:
        wanted = _fresh(config).state_dict()
    except (ValueError, TypeError, RuntimeError) as error:
        raise WeightsError(f"{path}: no network has the sizes it tells ({first_line(error)})") from error
    theirs: dict[str, str] = {}
    if not isinstance(config, PeerConfig) and names.keys() != state.keys():
        theirs = keys.to_official(wanted, keys.traits_of_config(config))
    theirs |= {ours: name for name, ours in names.items()}
    found = {
        "missing": [theirs.get(name, name) for name in wanted if name not in state],
        "unexpected": [theirs[name] for name in state if name not in wanted],
        "of another kind": [
            f"{theirs[name]} {_kind(state[name])} for {_kind(wanted[name])}"
            for name in wanted
            if name in state and (state[name].shape != wanted[name].shape or not _is_plain(state[name]))
        ],
    }
    problems = [f"{how} ({len(what)}: {_some(what)})" for how, what in found.items() if what]
    if problems:
        raise WeightsError(f"{path}: recognised as {describe(config)}, but tensors are {', '.join(problems)}")


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor holds floating-point numbers in memory, and each of its own."""
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    return tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()


def _kind(tensor: Tensor) -> str:
    """Type and shape, for a message."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _some(names: list[str]) -> str:
    """The first three of some names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
