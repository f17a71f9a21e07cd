"""ELAN as a family; its files have the authors' names alone."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from esc_sr.families.elan.network import ELAN, ELANConfig
from esc_sr.families.family import Shapes, enlargement, numbered
from esc_sr.families.published import PublishedFamily, expect


class ELANFamily(PublishedFamily):
    """Told by its local extraction.

    Tensors do not tell the windows; all published networks have the same.
    """

    kind = "elan"
    name = "ELAN"
    home = "github.com/xindongzhang/ELAN (Apache-2.0)"
    config = ELANConfig
    network = ELAN
    presets = {"elan-light": {scale: ELANConfig(scale) for scale in (2, 3, 4)}}
    mark = r"body\.\d+\.modules_lfe\."

    def infer(self, shapes: Shapes, encoder: bool = False) -> ELANConfig:
        """As `PublishedFamily.infer`."""
        blocks = numbered(shapes, r"body\.(\d+)\.")
        layers = numbered(shapes, r"body\.0\.modules_gmsa\.gmsa_(\d+)\.")
        expect(shapes, 14 * blocks * layers)
        hidden, dim = shapes["body.0.modules_lfe.lfe_0.conv0.shift_conv.conv1x1.weight"][:2]
        scale = enlargement(shapes["tail.0.weight"][0])
        return ELANConfig(scale, dim, blocks, layers - 1, hidden)

    def describe(self, config: ELANConfig) -> str:
        """The preset's name, or sizes."""
        return self.named(config, f"{config.dim} channels, {config.blocks} blocks")

    def official(self, config: ELANConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As `Family.official`, with the counters that the authors' code wants to load."""
        norms = (re.fullmatch(r"(.*)\.running_mean", name) for name in state)
        counters = {f"{norm[1]}.num_batches_tracked": torch.tensor(0) for norm in norms if norm}
        return super().official(config, state) | counters

    def published(self, config: Any, official: dict[str, Tensor]) -> dict[str, Any]:
        """As the authors."""
        return {"model_state_dict": official}

    def shuffled(self, config: ELANConfig) -> str:
        """Its only upsampling layer."""
        return "tail.0"


FAMILY = ELANFamily()
