"""LTE as a family: the networks that `train arbitrary` makes, and the LTE authors' files of them."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from esc_sr import families
from esc_sr.families.atd.network import ATDConfig
from esc_sr.families.contract import Config, Encoder
from esc_sr.families.esc.presets import PRESETS
from esc_sr.families.family import Detected, Family, ForeignError, Shapes, Tensors, identity, shapes_of
from esc_sr.families.hit_srf.network import HiTSRFConfig
from esc_sr.families.lte.config import LTEConfig
from esc_sr.families.lte.network import EncoderLTE
from esc_sr.families.rdn.network import RDNConfig
from esc_sr.families.renaming import rename
from esc_sr.families.shapes import without_numbers

IN = "encoder."

DECODER = (
    ("coef.*", "decoder.coef.*"),
    ("freq.*", "decoder.freq.*"),
    ("phase.*", "decoder.phase.*"),
    ("imnet.layers.*.*", "decoder.mlp.*.*"),
)
"""Names of LTE's authors, and ours."""

OURS = tuple((ours, official) for official, ours in DECODER)
"""The other way round."""


ENCODERS: dict[str, Config] = {
    "esc-lte": PRESETS["esc"][2],
    "rdn-lte": RDNConfig(2),
    "atd-lte": ATDConfig(2),
    "hit-srf-lte": HiTSRFConfig(2),
}
"""What the paper puts LTE on (Tables 5 and 6)."""


class LTEFamily(Family):
    """LTE's files: the encoder's names with "encoder." before them, and the decoder's."""

    kind = "esc-lte"
    name = "LTE"
    home = "github.com/dslisleedh/ESC, esc_arb (BSD-3-Clause)"
    config = LTEConfig
    network = EncoderLTE
    presets = {name: dict.fromkeys((2, 3, 4), LTEConfig(encoder)) for name, encoder in ENCODERS.items()}
    tensors_tell = False

    def detect(self, tensors: Tensors, encoder: bool = False) -> Detected | None:
        """As `Family.detect`."""
        inner = _inner(tensors)
        others = [name for name in tensors if not name.startswith(IN)]
        if not inner or not any(re.match(r"(coef|freq|phase|imnet|decoder)\.", name) for name in others):
            return None
        found = _detect_encoder(inner)
        if found is None:
            return None
        names = {IN + name: IN + ours for name, ours in found.names.items()}
        names |= identity(others) | rename(others, DECODER)
        shapes = {names[name]: shape for name, shape in shapes_of(tensors).items() if name in names}
        try:
            return Detected(_infer(shapes, found.config), names, found.dialect)
        except KeyError as error:
            missing = str(error.args[0])
            theirs = rename([missing], () if found.dialect == "esc-sr" else OURS)
            raise KeyError(theirs.get(missing, missing)) from error

    def describe(self, config: LTEConfig) -> str:
        """The preset's name, or the encoder's family and size."""
        blocks = f", {config.depth} blocks" if config.depth else ""
        encoder = f"{families.family_of(config.encoder).name}+LTE of {_blank(config.encoder).dim} channels"
        return self.variant(config) or encoder + blocks

    def official_names(self, config: LTEConfig, names: Iterable[str]) -> dict[str, str]:
        """By the encoder's table and ours."""
        names = list(names)
        inner = [name.removeprefix(IN) for name in names if name.startswith(IN)]
        theirs = families.family_of(config.encoder).official_names(config.encoder, inner)
        found = {IN + name: IN + official for name, official in theirs.items()}
        return found | rename(names, OURS)

    def official(self, config: LTEConfig, state: Tensors) -> dict[str, Tensor]:
        """As `Family.official`; only where the authors' code has the encoder."""
        families.family_of(config.encoder).official(config.encoder, _inner(state))
        return super().official(config, state)

    def buffers(self, config: LTEConfig) -> dict[str, Tensor]:
        """As `Family.buffers`: the encoder's."""
        inner = families.family_of(config.encoder).buffers(config.encoder)
        return {IN + name: value for name, value in inner.items()}

    def published(self, config: LTEConfig, official: dict[str, Tensor]) -> dict[str, Any]:
        """The tensors, and what LTE's authors build the network from."""
        args = {
            "encoder_spec": families.family_of(config.encoder).encoder_spec(config.encoder),
            "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": list(config.mlp)}},
            "hidden_dim": config.hidden,
        }
        return {"model": {"name": "lte", "args": args, "sd": official}}

    def adapt(self, config: Any, wanted: Any, state: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
        """Make an encoder of a network with a scale, or the other way round; without what follows it.

        A network sees pictures in 0..1 and an encoder in -1..1: the first convolution is changed to give what
        it gave, but for the outermost pixels, as both pad with zeros.
        """
        if isinstance(config, LTEConfig):
            family = families.family_of(config.encoder)
            inner = _inner(state)
            if not isinstance(wanted, LTEConfig):
                known = families.blank(wanted).state_dict()
                inner = {name: value for name, value in inner.items() if name in known}
                return _as_encoder(family, config.encoder, wanted), _for_range(family, inner, 2.0)
            encoder, inner = family.adapt(config.encoder, wanted.encoder, inner)
            decoder = {name: value for name, value in state.items() if not name.startswith(IN)}
            return replace(config, encoder=encoder), decoder | {IN + name: t for name, t in inner.items()}
        family = families.family_of(config)
        if family is not families.family_of(wanted.encoder):
            return config, state
        kept = _blank(config).state_dict()
        inner = _for_range(family, {name: state[name] for name in kept if name in state}, 0.5)
        found = replace(wanted, encoder=_as_encoder(family, config, wanted.encoder))
        return self.adapt(found, wanted, {IN + name: value for name, value in inner.items()})


def _infer(shapes: Shapes, encoder: Config) -> LTEConfig:
    """The sizes of the decoder on an encoder; KeyError as of `Family.detect`, with our name."""
    layers = (re.fullmatch(r"decoder\.mlp\.(\d+)\.weight", name) for name in shapes)
    numbers = sorted(int(match[1]) for match in layers if match)
    mlp = tuple(shapes[f"decoder.mlp.{number}.weight"][0] for number in numbers[:-1])
    return LTEConfig(encoder, shapes["decoder.coef.weight"][0], mlp)


def _inner(tensors: Tensors) -> dict[str, Tensor]:
    """The encoder's, by its own names."""
    return {name.removeprefix(IN): t for name, t in tensors.items() if name.startswith(IN)}


def _blank(config: Config) -> Encoder:
    """The encoder of a network, without numbers."""
    with without_numbers():
        return families.build_encoder(config)


def _as_encoder(family: Family, config: Any, like: Config) -> Any:
    """Sizes with those that mean nothing to an encoder taken from another network of the family, if it is."""
    if families.family_of(like) is not family:
        return config
    return replace(config, **{key: getattr(like, key) for key in family.outer})


def _for_range(family: Family, state: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Weights of a network, for pictures in 0..1 without its mean colour, of those of an encoder, for -1..1.

    The factor of their range is 2, or 1/2 the other way round.
    """
    weight, bias = f"{family.first}.weight", f"{family.first}.bias"
    kernel, shift = state[weight].float(), state[bias].float()
    mean = torch.tensor(family.mean)
    moved = kernel.sum((2, 3)) @ (2 * mean - 1 if factor == 2 else 0.5 - mean)
    return state | {weight: kernel * factor, bias: shift + moved}


def _detect_encoder(tensors: Tensors) -> Detected | None:
    """Whose encoder it is."""
    try:
        found = families.detect_encoder(tensors)
    except KeyError as error:
        raise KeyError(f"{IN}{error.args[0]}") from error
    except ForeignError as error:
        raise ForeignError(f"LTE with the encoder {error}") from error
    if found is None:
        known = (family.name for family in families.FAMILIES if family.recognises(tensors))
        if foreign := next(known, None):
            raise ForeignError(f"LTE with the encoder {foreign}")
    return found


FAMILY = LTEFamily()
