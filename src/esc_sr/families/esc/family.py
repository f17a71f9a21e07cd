"""ESC and its variants as a family: ESC, ESC-light, ESC-FP, ESC-XL, ESC-Real and ESC-Real-M."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from esc_sr.families.esc import detect, keys
from esc_sr.families.esc.config import ESCConfig
from esc_sr.families.esc.network import ESC, ESCEncoder
from esc_sr.families.esc.presets import PRESETS
from esc_sr.families.family import Detected, Family, ForeignError, Tensors, identity, shapes_of


class ESCFamily(Family):
    """ESC's files: the authors', neosr's and traiNNer-redux's names, or ours."""

    kind = "esc"
    name = "ESC"
    home = "github.com/dslisleedh/ESC (MIT)"
    config = ESCConfig
    network = ESC
    presets = PRESETS
    encoder = ESCEncoder
    first = "head"
    outer = ("scale", "skip", "upsampler", "upsampler_width")
    tensors_tell = False

    def detect(self, tensors: Tensors, encoder: bool = False) -> Detected | None:
        """As `Family.detect`; what `to_img.MetaUpsample` tells is no weight."""
        if "blocks.0.ffn_in.expand.weight" in tensors:
            return Detected(
                detect.infer(shapes_of(tensors), encoder=encoder), identity(tensors), dialect="esc-sr"
            )
        if not tensors.keys() & {"plk_filter", "lk_spatial"}:
            return None
        if foreign := detect.foreign_dialect(tensors):
            raise ForeignError(foreign)
        dialect, enlargement = detect.read_meta(tensors.get(detect.META_NAME))
        theirs = [name for name in tensors if name != detect.META_NAME]
        traits = keys.traits_of_names(theirs)
        known = keys.to_ours(theirs, traits)
        names = {name: known.get(name, f"?{name}") for name in theirs}
        shapes = {names[name]: shape for name, shape in shapes_of(tensors).items() if name in names}
        try:
            return Detected(detect.infer(shapes, enlargement, encoder), names, dialect)
        except KeyError as error:
            missing = str(error.args[0])
            raise KeyError(keys.to_official([missing], traits).get(missing, missing)) from error

    def describe(self, config: ESCConfig) -> str:
        """The preset's name, or that of the variant with its size."""
        variant = "ESC-FP" if config.decomposed else "ESC-Real" if config.skip == "conv" else "ESC"
        name = self.variant(config) or f"{variant} of {config.dim} channels, {config.n_blocks} blocks"
        return f"{name} x{config.scale}"

    def official_names(self, config: ESCConfig, names: Iterable[str]) -> dict[str, str]:
        """By the table of `keys`."""
        return keys.to_official(names, keys.traits_of_config(config))

    def official(self, config: ESCConfig, state: Tensors) -> dict[str, Tensor]:
        """As `Family.official`, with `to_img.MetaUpsample` where theirs has it."""
        network = authors_class(config)
        if network is None:
            raise ValueError(
                f"the authors' code has no {self.describe(config)} with these sizes; keep it native"
            )
        theirs = super().official(config, state)
        if network == "ESCRealM":
            theirs[detect.META_NAME] = detect.write_meta(config)
        return theirs

    def published(self, config: ESCConfig, official: dict[str, Tensor]) -> dict[str, Any]:
        """The same twice: as trained and averaged."""
        return {"params": official, "params_ema": official}

    def encoder_spec(self, config: ESCConfig) -> dict[str, Any]:
        """The authors' words for the sizes."""
        args = {
            "dim": config.dim,
            "pdim": config.pdim,
            "kernel_size": config.kernel,
            "n_blocks": config.n_blocks,
            "conv_blocks": config.n_convattn,
            "window_size": config.window,
            "num_heads": config.heads,
            "exp_ratio": config.expansion,
        }
        return {"name": "esc", "args": args}

    def shuffled(self, config: ESCConfig) -> str | None:
        """The only convolution of pixelshuffledirect (Supp. 6.1)."""
        direct = config.upsampler == "pixelshuffledirect" and config.unshuffle == 1
        return "upsampler.0" if direct else None

    def adapt(self, config: Any, wanted: Any, state: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
        """Add the blocks that are missing, as the identity.

        They come last, and their `conv_out` is zero, so that the network computes what it did before; all
        else in them is left out.
        """
        if not isinstance(config, ESCConfig) or not isinstance(wanted, ESCConfig):
            return config, state
        shapes = {"weight": (config.dim, config.dim, 3, 3), "bias": (config.dim,)}
        added = {
            f"blocks.{number}.conv_out.{name}": torch.zeros(shape)
            for number in range(config.n_blocks, wanted.n_blocks)
            for name, shape in shapes.items()
        }
        return replace(config, n_blocks=max(config.n_blocks, wanted.n_blocks)), state | added


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
    fixed |= {"n_attn": 1, "own_kernels": False, "dynamic": True}
    return name if replace(config, **fixed) == config and config.n_convattn else None


FAMILY = ESCFamily()
