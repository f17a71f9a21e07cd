"""The sizes of LTE and of the encoder that it is built on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from esc_sr import families
from esc_sr.errors import UsageError
from esc_sr.families.contract import Config
from esc_sr.families.esc.config import ESCConfig


@dataclass(frozen=True)
class LTEConfig(Config):
    """Sizes of a network for any size of picture; its defaults are ESC+LTE's.

    Attributes:
        encoder: Sizes of the network that the encoder is of; what follows it there has no meaning here.
        hidden: Channels of amplitudes and of frequencies, even.
        mlp: Widths of the hidden layers of the decoder.
        trained_scale: Largest enlargement seen in training; beyond it cells keep the size they have there.
    """

    scale: None = field(default=None, init=False)
    encoder: Config = ESCConfig()
    hidden: int = 256
    mlp: tuple[int, ...] = (256, 256, 256)
    trained_scale: float = 4.0

    @property
    def depth(self) -> int | None:
        """Blocks of the encoder."""
        return self.encoder.depth

    def at_depth(self, depth: int) -> Self:
        """The same with so many blocks."""
        return replace(self, encoder=self.encoder.at_depth(depth))

    def sizes(self) -> dict[str, Any]:
        """As `Config.sizes`; an encoder says of which family it is, unless that is ESC."""
        kind = families.family_of(self.encoder).kind
        encoder = self.encoder.sizes() | ({} if kind == "esc" else {"kind": kind})
        return {
            "encoder": encoder,
            "hidden": self.hidden,
            "mlp": self.mlp,
            "trained_scale": self.trained_scale,
        }

    @classmethod
    def of_sizes(cls, sizes: Mapping[str, Any]) -> Self:
        """As `Config.of_sizes`."""
        cls.check_types(sizes)
        encoder = dict(sizes["encoder"])
        family = families.of_kind(encoder.pop("kind", "esc"))
        return cls(**{**sizes, "encoder": family.config.of_sizes(encoder), "mlp": tuple(sizes["mlp"])})


def any_size(config: Config) -> Config:
    """Make the network for any size whose encoder is that of another one; one for any size stays as it is.

    Raises:
        UsageError: That network has no encoder for LTE.
    """
    if config.scale is None:
        return config
    if families.family_of(config).encoder is None:
        raise UsageError(f"{families.describe(config)} cannot be the encoder of LTE")
    return LTEConfig(config)
