"""Checkpoints to other names and other scales."""

import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from esc_sr import families
from esc_sr.errors import UsageError, WeightsError
from esc_sr.families.contract import Config
from esc_sr.weights.bundle import card, find
from esc_sr.weights.checkpoint import Checkpoint, apart, read, save, write
from esc_sr.weights.container import write_atomically
from esc_sr.weights.mixture import mix
from esc_sr.weights.opening import load

OF_THE_NUMBERS = ("benchmarks", "held_out", "stored_as", "note")
"""What a card says of the very numbers beside it, and not of how they came about."""


def convert(
    source: str | Path,
    out: Path,
    to: Literal["native", "official"] = "native",
    scale: int | None = None,
    overwrite: bool = False,
) -> Config:
    """Rewrite a checkpoint in our format or in the authors' names; every number stays as it is.

    Args:
        source: File of any dialect, or bundled name.
        out: File to write. Native is always safetensors; official is safetensors where the name ends so,
            otherwise a .pth as the authors publish it.
        to: Whose names and format.
        scale: Make starting weights for this scale: the last convolution is resized (`rescale`).
        overwrite: Replace an existing file.

    Returns:
        Sizes of the network that was written.

    Raises:
        UsageError: `out` exists and `overwrite` is off, or is the source, or its name does not suit the
            format.
        WeightsError: The source cannot be read, rescaled or said in the authors' names, or `out` cannot be
            written.
    """
    suffixes = (".safetensors",) if to == "native" else (".pth", ".pt", ".safetensors")
    check_suffix(out, suffixes, f"{to} weights")
    path = find(source)
    check_target(out, path, overwrite)
    checkpoint = read(path)
    if scale is not None:
        checkpoint = rescale(checkpoint, scale, path)
    if to == "native":
        write(checkpoint, out)
        return checkpoint.config
    config, family = checkpoint.config, families.family_of(checkpoint.config)
    try:
        state = family.official(config, checkpoint.state)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    if out.suffix == ".safetensors":
        write_atomically(out, safetensors.torch.save(apart(state)))
    else:
        data = io.BytesIO()
        torch.save(family.published(config, state), data)
        write_atomically(out, data.getvalue())
    return config


def mix_files(
    source: str | Path, other: str | Path, out: Path, share: float, overwrite: bool = False
) -> Config:
    """Write the network between two, one trained from the other (`mix`).

    Args:
        source: File of any dialect, or bundled name.
        other: The same, of a network of the same sizes.
        out: File to write, safetensors in float32. Its card is that of `source`, without its scores, and says
            which two it lies between.
        share: Of `source`, 0..1.
        overwrite: Replace an existing file.

    Returns:
        Sizes of the network that was written.

    Raises:
        UsageError: `share` is out of range, or `out` exists and `overwrite` is off, or is one of the two, or
            has another suffix.
        WeightsError: One of the two cannot be read, they have other sizes, or `out` cannot be written.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"a share of {share}: must be from 0 to 1")
    check_suffix(out)
    paths = find(source), find(other)
    for path in paths:
        check_target(out, path, overwrite)
    mixed = mix(load(paths[0]), load(paths[1]), share)
    facts = {key: value for key, value in (card(paths[0]) or {}).items() if key not in OF_THE_NUMBERS}
    save(mixed, out, facts | {"mixed": {"share": share, "with": paths[1].name}})
    return mixed.config


def check_suffix(out: Path, suffixes: Sequence[str] = (".safetensors",), what: str = "weights") -> None:
    """Raise UsageError if a file to write is called otherwise."""
    if out.suffix not in suffixes:
        raise UsageError(f"{out}: {what} are written as {' or '.join(suffixes)}; give such a name")


def check_target(out: Path, source: Path, overwrite: bool) -> None:
    """Refuse a file to write, before the work.

    Raises:
        UsageError: It exists, and is not to be replaced, or is the source.
        WeightsError: Its folder is none, or closed.
    """
    if out.exists() and (not overwrite or out.samefile(source)):
        raise UsageError(f"{out}: exists; give another name or --overwrite (never the input itself)")
    check_folder(out)


def check_folder(out: Path) -> None:
    """Raise WeightsError if no file can be made where `out` is to be."""
    if not os.access(out.parent, os.W_OK):
        raise WeightsError(f"{out}: cannot be written, {out.parent} is no folder or closed to you")


def starting_weights(source: str | Path, config: Config) -> dict[str, Tensor]:
    """Read weights to start a training from; those of another network are adapted, where that is known.

    The scale changes by `rescale`. ESC starts from fewer blocks, LTE from its encoder's network and the other
    way round, as `Family.adapt` says.

    Args:
        source: File of any dialect, or bundled name.
        config: The network to train.

    Returns:
        Float32 tensors by our names, to be loaded into a network of these sizes: all of them, or only some.

    Raises:
        WeightsError: The file cannot be read, or is of another network than can be adapted.
    """
    path = find(source)
    checkpoint = read(path)
    theirs, here, there = checkpoint.config, families.family_of(config), families.family_of(checkpoint.config)
    if here is there and theirs.scale != config.scale and config.scale is not None:
        checkpoint = rescale(checkpoint, config.scale, path)
    found, state = checkpoint.config, checkpoint.state
    for family in dict.fromkeys((there, here)):
        found, state = family.adapt(found, config, state)
    if families.family_of(found) is not here:
        raise WeightsError(
            f"{path}: is {families.describe(theirs)}, which {families.describe(config)} cannot start from"
        )
    sizes = _flat(found)
    differ = [
        f"{key} {sizes.get(key)} and not {value}"
        for key, value in _flat(config).items()
        if sizes.get(key) != value
    ]
    if differ:
        raise WeightsError(
            f"{path}: is of another network than {families.describe(config)}: {', '.join(differ)}"
        )
    return {name: value.float() for name, value in state.items()}


def _flat(config: Config) -> dict[str, Any]:
    """All sizes of a network by name, those of its encoder among them."""
    sizes = config.sizes()
    return sizes | sizes.pop("encoder", {})


def rescale(checkpoint: Checkpoint, scale: int, path: Path) -> Checkpoint:
    """Make starting weights for another scale, as the paper's fine-tuning does (Supp. 6.1).

    The last convolution is resized bilinearly over its scale x scale sub-pixels, all else is kept.

    Args:
        checkpoint: Weights of a network that ends in one convolution and a pixel shuffle (`Family.shuffled`).
        scale: The new scale.
        path: File the weights come from, for messages and the card.

    Returns:
        Weights for the new scale, with a card that says what they are.

    Raises:
        WeightsError: The network has another end.
    """
    config = checkpoint.config
    last = families.family_of(config).shuffled(config)
    if last is None:
        raise WeightsError(
            f"{path}: is {families.describe(config)}; "
            "only a network that ends in one convolution and a pixel shuffle goes to another scale"
        )
    if not 1 <= scale <= 8:
        raise WeightsError(f"{path}: cannot go to scale {scale}; 1 to 8 can be made")
    state = dict(checkpoint.state)
    for name in (f"{last}.weight", f"{last}.bias"):
        state[name] = resize_subpixels(state[name], scale)
    card: dict[str, Any] = {"started_from": path.name, "resized_from_scale": config.scale, "iterations": 0}
    return replace(checkpoint, config=replace(config, scale=scale), state=state, card=card)


def resize_subpixels(value: Tensor, scale: int) -> Tensor:
    """Resize a convolution before a pixel shuffle over its sub-pixel grid.

    Args:
        value: Weight (3 s^2, C, k, k) or bias (3 s^2,).
        scale: New number of sub-pixels per side.

    Returns:
        (3 scale^2, ...), bilinear with align_corners off; in the precision of `value`.
    """
    old = round((value.shape[0] / 3) ** 0.5)
    grid = value.float().reshape(3, old, old, -1).permute(0, 3, 1, 2)  # (3, C k k, s, s)
    grid = F.interpolate(grid, size=(scale, scale), mode="bilinear", align_corners=False)
    return grid.permute(0, 2, 3, 1).reshape(3 * scale**2, *value.shape[1:]).to(value.dtype)
