"""Checkpoints to other names and other scales."""

import io
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from esc_sr.errors import UsageError, WeightsError
from esc_sr.families import PeerConfig
from esc_sr.families.esc import ESCConfig, detect, keys
from esc_sr.families.lte import LTEConfig, encoder_config
from esc_sr.weights.bundle import find
from esc_sr.weights.checkpoint import Checkpoint, Config, Network, describe, read, write
from esc_sr.weights.container import write_atomically


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
    if out.suffix not in suffixes:
        raise UsageError(f"{out}: {to} weights are written as {' or '.join(suffixes)}; give such a name")
    path = find(source)
    if out.exists() and (not overwrite or out.samefile(path)):
        raise UsageError(f"{out}: exists; give another name or --overwrite (never the input itself)")
    checkpoint = read(path)
    if scale is not None:
        checkpoint = rescale(checkpoint, scale, path)
    if to == "native":
        write(checkpoint, out)
        return checkpoint.config
    try:
        state = official_state(checkpoint.config, checkpoint.state)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    if out.suffix == ".safetensors":
        write_atomically(out, safetensors.torch.save(state))
    else:
        data = io.BytesIO()
        torch.save(_as_published(checkpoint.config, state), data)
        write_atomically(out, data.getvalue())
    return checkpoint.config


def export_official(model: Network) -> dict[str, Tensor]:
    """Give a network's parameters the names that the authors' code loads.

    Args:
        model: The network.

    Returns:
        Tensors by the authors' names, with `to_img.MetaUpsample` where theirs has it; no copies. Networks of
        other families have those names already.

    Raises:
        WeightsError: The authors' code has no such network.
    """
    try:
        return official_state(model.config, model.state_dict())
    except ValueError as error:
        raise WeightsError(str(error)) from error


def starting_weights(source: str | Path, config: ESCConfig | LTEConfig) -> dict[str, Tensor]:
    """Read weights to start a training from; of another scale or fewer blocks, they are adapted.

    The scale changes by `rescale`. Blocks that the file lacks come last and start as the identity: `conv_out`
    is zero, so that the network computes what the one of the file does; all else in them is left to the
    network's own initialisation.

    Args:
        source: File of any dialect, or bundled name.
        config: The network to train. ESC+LTE may also start from an ESC of any scale, as its encoder, and
            ESC from the encoder of an ESC+LTE.

    Returns:
        Float32 tensors by our names, to be loaded into a network of these sizes: all of them, or only those
        of the encoder, and of new blocks only `conv_out`.

    Raises:
        WeightsError: The file cannot be read, is of another family, or the networks differ in more than scale
            and added blocks.
    """
    path = find(source)
    checkpoint = read(path)
    theirs = checkpoint.config
    if isinstance(theirs, PeerConfig):
        raise WeightsError(
            f"{path}: is {describe(theirs)}; only ESC and its variants are trained, from their own"
        )
    if isinstance(theirs, LTEConfig) is not isinstance(config, LTEConfig):
        checkpoint = _encoder(checkpoint, encoder_config(theirs), config)
    elif isinstance(config, ESCConfig) and encoder_config(theirs).scale != config.scale:
        checkpoint = rescale(checkpoint, config.scale, path)
    there, deep = encoder_config(theirs).n_blocks, encoder_config(config).n_blocks
    found = _flat(checkpoint.config) | {"n_blocks": max(there, deep)}
    differ = [
        f"{key} {found[key]} and not {value}" for key, value in _flat(config).items() if found[key] != value
    ]
    if differ:
        raise WeightsError(f"{path}: is of another network than {describe(config)}: {', '.join(differ)}")
    state = checkpoint.state | _identity_blocks(config, range(there, deep))
    return {name: value.float() for name, value in state.items()}


def _encoder(checkpoint: Checkpoint, theirs: ESCConfig, config: ESCConfig | LTEConfig) -> Checkpoint:
    """The encoder of an ESC as that of ESC+LTE, or the other way round; what follows it is left out.

    ESC sees pictures in 0..1 and ESC+LTE in -1..1: the first convolution is changed to give what it gave,
    but for the outermost pixels, as both pad with zeros. `theirs` are the sizes of the one there is.
    """
    wanted = encoder_config(config)
    outer = {key: getattr(wanted, key) for key in ("scale", "skip", "upsampler", "upsampler_width")}
    encoder = replace(theirs, **outer)
    state = {
        name.removeprefix("encoder."): value
        for name, value in checkpoint.state.items()
        if not name.startswith(("upsampler.", "skip.", "decoder."))
    }
    weight, bias = state["head.weight"].float(), state["head.bias"].float()
    if isinstance(config, ESCConfig):
        state |= {"head.weight": weight * 2, "head.bias": bias - weight.sum((1, 2, 3))}
        return replace(checkpoint, config=encoder, state=state)
    state |= {"head.weight": weight / 2, "head.bias": bias + weight.sum((1, 2, 3)) / 2}
    named = {f"encoder.{name}": value for name, value in state.items()}
    return replace(checkpoint, config=replace(config, encoder=encoder), state=named)


def _flat(config: Config) -> dict[str, Any]:
    """All sizes of a network by name, those of its encoder among them."""
    sizes = asdict(config) | asdict(config.encoder if isinstance(config, LTEConfig) else config)
    return {key: value for key, value in sizes.items() if key != "encoder"}


def _identity_blocks(config: ESCConfig | LTEConfig, numbers: range) -> dict[str, Tensor]:
    """What makes these blocks pass their input on."""
    dim, prefix = encoder_config(config).dim, "encoder." if isinstance(config, LTEConfig) else ""
    shapes = {"weight": (dim, dim, 3, 3), "bias": (dim,)}
    return {
        f"{prefix}blocks.{number}.conv_out.{name}": torch.zeros(shape)
        for number in numbers
        for name, shape in shapes.items()
    }


def rescale(checkpoint: Checkpoint, scale: int, path: Path) -> Checkpoint:
    """Make starting weights for another scale, as the paper's fine-tuning does (Supp. 6.1).

    The last convolution is resized bilinearly over its scale x scale sub-pixels, all else is kept.

    Args:
        checkpoint: Weights of a network with the upsampler pixelshuffledirect.
        scale: The new scale.
        path: File the weights come from, for messages and the card.

    Returns:
        Weights for the new scale, with a card that says what they are.

    Raises:
        WeightsError: The network has another upsampler.
    """
    config = checkpoint.config
    if not isinstance(config, ESCConfig) or config.upsampler != "pixelshuffledirect" or config.unshuffle > 1:
        raise WeightsError(
            f"{path}: is {describe(config)}; "
            "only ESC with the upsampler pixelshuffledirect goes to another scale"
        )
    if not 1 <= scale <= 8:
        raise WeightsError(f"{path}: cannot go to scale {scale}; 1 to 8 can be made")
    state = dict(checkpoint.state)
    for name in ("upsampler.0.weight", "upsampler.0.bias"):
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


def official_state(config: Config, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors of our names to the authors', which those of other families have already.

    Raises:
        ValueError: The authors' code has no such network.
    """
    if isinstance(config, PeerConfig):
        return dict(state)
    network = authors_class(encoder_config(config))
    if network is None:
        raise ValueError(f"the authors' code has no {describe(config)} with these sizes; keep it native")
    names = keys.to_official(state, keys.traits_of_config(config))
    theirs = {names[name]: tensor for name, tensor in state.items()}
    if isinstance(config, ESCConfig) and network == "ESCRealM":
        method = detect.META_METHODS.index(config.upsampler.replace("dysampledirect", "dysample"))
        inside = config.dim if config.upsampler == "dysampledirect" else config.upsampler_width
        vector = [2, method, config.scale * config.unshuffle, config.dim, 3, inside, 4]
        theirs[detect.META_NAME] = torch.tensor(vector, dtype=torch.uint8)
    return theirs


def authors_class(config: ESCConfig) -> str | None:
    """Name the class of the authors' code that has this network, if one has."""
    fixed: dict[str, Any]
    one_layer = config.upsampler == "dysampledirect" and config.unshuffle == 1
    if config.decomposed:
        name, fixed = "ESCFP", {"skip": "bicubic", "ffn_norm": True, "first_expansion": 1.5}
    elif config.skip != "conv":
        name, fixed = "ESC", {"skip": "nearest", "first_expansion": 2.0}
    else:
        multiple = config.upsampler != "realesrgan" and not one_layer
        name, fixed = "ESCRealM" if multiple else "ESCReal", {"ffn_norm": True, "first_expansion": 2.0}
    if name in ("ESC", "ESCFP"):
        fixed["upsampler"] = "pixelshuffledirect"
    if name != "ESCRealM" or config.unshuffle != max(4 // config.scale, 1):
        fixed["unshuffle"] = 1
    return name if replace(config, **fixed) == config else None


def _as_published(config: Config, state: dict[str, Tensor]) -> dict[str, Any]:
    """What the authors' checkpoints hold around the tensors."""
    if isinstance(config, PeerConfig):
        return {"params": state}
    if isinstance(config, ESCConfig):
        return {"params": state, "params_ema": state}
    esc = config.encoder
    encoder = {
        "dim": esc.dim,
        "pdim": esc.pdim,
        "kernel_size": esc.kernel,
        "n_blocks": esc.n_blocks,
        "conv_blocks": esc.n_convattn,
        "window_size": esc.window,
        "num_heads": esc.heads,
        "exp_ratio": esc.expansion,
    }
    args = {
        "encoder_spec": {"name": "esc", "args": encoder},
        "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": list(config.mlp)}},
        "hidden_dim": config.hidden,
    }
    return {"model": {"name": "lte", "args": args, "sd": state}}
