"""The families of networks: ESC, those that the paper compares with, and those that can teach; torch only.

A new family is a folder beside these, and its `FAMILY` in the list.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from esc_sr.errors import UsageError
from esc_sr.families.asid.family import FAMILY as ASID
from esc_sr.families.atd.family import FAMILY as ATD
from esc_sr.families.bsrn.family import FAMILY as BSRN
from esc_sr.families.contract import Config, Encoder, ForeignConfig, Network
from esc_sr.families.dasr.family import FAMILY as DASR
from esc_sr.families.elan.family import FAMILY as ELAN
from esc_sr.families.esc.family import FAMILY as ESC
from esc_sr.families.family import Detected, Family, Tensors
from esc_sr.families.hit_srf.family import FAMILY as HIT_SRF
from esc_sr.families.lte.family import FAMILY as LTE
from esc_sr.families.mambair.family import FAMILY as MAMBAIR
from esc_sr.families.mambairv2.family import FAMILY as MAMBAIRV2
from esc_sr.families.omnisr.family import FAMILY as OMNISR
from esc_sr.families.rcan.family import FAMILY as RCAN
from esc_sr.families.rdn.family import FAMILY as RDN
from esc_sr.families.rrdb.family import FAMILY as RRDB
from esc_sr.families.shapes import without_numbers
from esc_sr.families.srformer.family import FAMILY as SRFORMER
from esc_sr.families.srvgg.family import FAMILY as SRVGG
from esc_sr.families.swinir.family import FAMILY as SWINIR

FAMILIES: list[Family] = [
    ESC,
    LTE,
    SWINIR,
    SRFORMER,
    HIT_SRF,
    ATD,
    ELAN,
    OMNISR,
    ASID,
    BSRN,
    SRVGG,
    RCAN,
    RDN,
    RRDB,
    DASR,
    MAMBAIR,
    MAMBAIRV2,
]
"""In the order in which files are asked whether they are of the family; others may be added."""


def family_of(config: Config) -> Family:
    """The family of these sizes.

    Raises:
        UsageError: They are of a network of no family.
    """
    if isinstance(config, ForeignConfig):
        raise UsageError(f"{describe(config)} is of no family here: use it or learn from it, nothing else")
    return next(family for family in FAMILIES if type(config) is family.config)


def of_kind(kind: str) -> Family:
    """The family that our own files call so.

    Raises:
        KeyError: There is none.
    """
    return {family.kind: family for family in FAMILIES}[kind]


def detect_encoder(tensors: Tensors) -> Detected | None:
    """Tell of which network an encoder is; errors as of `Family.detect`."""
    found = (family.detect(tensors, encoder=True) for family in FAMILIES if family.encoder)
    return next(filter(None, found), None)


def build(config: Config) -> Network:
    """Build a network with fresh weights."""
    return family_of(config).network(config)


def blank(config: Config, most: int | None = None) -> Network:
    """Build a network whose parameters have shapes but no numbers, which takes no memory.

    Args:
        config: Its sizes.
        most: How many layers and parameters it may have, together; any number if None.

    Raises:
        ValueError: It has more of them; it takes no longer to tell.
    """
    with without_numbers(), _at_most(most):
        return build(config)


@contextmanager
def _at_most(parts: int | None) -> Iterator[None]:
    """Let this thread build no modules with more layers and parameters."""
    if parts is None:
        yield
        return
    count, thread = 0, get_ident()

    def counts(*_: object) -> None:
        nonlocal count
        count += get_ident() == thread
        if count > parts:
            raise ValueError(f"it would be of more than {parts} layers and parameters")

    hooks = (
        register_module_module_registration_hook(counts),
        register_module_parameter_registration_hook(counts),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def build_encoder(config: Config) -> Encoder:
    """Build what LTE needs of a network.

    Raises:
        ValueError: The family has no such part.
    """
    family = family_of(config)
    if family.encoder is None:
        raise ValueError(f"{family.name} cannot be the encoder of LTE")
    return family.encoder(config)


def describe(config: Config) -> str:
    """Say in a few words what network this is."""
    if isinstance(config, ForeignConfig):
        return f"{config.name} x{config.scale}"
    return family_of(config).describe(config)


def variant(config: Config) -> str | None:
    """Name the preset that has these sizes, if any."""
    return None if isinstance(config, ForeignConfig) else family_of(config).variant(config)


def presets() -> list[str]:
    """The names of the published networks, family by family."""
    return [name for family in FAMILIES for name in family.presets]


def preset(name: str, scale: int) -> Config:
    """Look up the sizes of a published network.

    Args:
        name: One of `presets`.
        scale: One of `scales`; networks for any size are the same at each.

    Raises:
        UsageError: No such network, or not at this scale.
    """
    if scale not in scales(name):
        raise UsageError(f"{name} has no scale {scale}; it has {', '.join(map(str, scales(name)))}")
    return _published(name)[scale]


def scales(name: str) -> tuple[int, ...]:
    """The scales that a published network has; of one for any size, those of the paper's tables.

    Raises:
        UsageError: No such network.
    """
    return tuple(_published(name))


def _published(name: str) -> dict[int, Config]:
    """The sizes of a published network by scale."""
    for family in FAMILIES:
        if name in family.presets:
            return dict(family.presets[name])
    raise UsageError(f"no network is called {name!r}; there are {', '.join(presets())}")
