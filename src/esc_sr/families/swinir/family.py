"""SwinIR as a family; its files have the authors' names alone."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from esc_sr.families.family import Detected, ForeignError, Shapes, Tensors, enlargement
from esc_sr.families.parts.shell import ShellFamily, window_of
from esc_sr.families.parts.windows import official_buffers
from esc_sr.families.swinir.network import UPSAMPLERS, SwinIR, SwinIRConfig

_REAL = SwinIRConfig(4, 180, (6,) * 6, 6, 8, 360, 1, UPSAMPLERS[1])


class SwinIRFamily(ShellFamily):
    """Told by blocks of attention with tables of biases, whose queries, keys and values are one layer."""

    kind = "swinir"
    name = "SwinIR"
    home = "github.com/JingyunLiang/SwinIR (Apache-2.0)"
    config = SwinIRConfig
    network = SwinIR
    presets = {
        "swinir-light": {scale: SwinIRConfig(scale) for scale in (2, 3, 4)},
        "swinir-real-m": {4: _REAL},
        "swinir-real-l": {4: replace(_REAL, dim=240, depths=(6,) * 9, heads=8, hidden=480, convs=3)},
    }

    mark = ShellFamily.block + r"attn\.qkv\."

    def detect(self, tensors: Tensors, encoder: bool = False) -> Detected | None:
        """As `Family.detect`; HAT has such layers, and others."""
        if any(".overlap_attn." in name for name in tensors):
            return None
        return super().detect(tensors, encoder)

    def infer(self, shapes: Shapes, encoder: bool = False) -> SwinIRConfig:
        """As `PublishedFamily.infer`."""
        if "conv_last.weight" in shapes and "conv_up2.weight" not in shapes:
            raise ForeignError("SwinIR with another upsampler")
        real = "conv_up2.weight" in shapes
        scale = 4 if real else enlargement(shapes["upsample.0.weight"][0])
        depths = self.depths(shapes)
        first = "layers.0.residual_group.blocks.0."
        table = shapes[f"{first}attn.relative_position_bias_table"]
        return SwinIRConfig(
            scale,
            shapes["conv_first.weight"][0],
            depths,
            table[1],
            window_of(table),
            shapes[f"{first}mlp.fc1.weight"][0],
            3 if "layers.0.conv.0.weight" in shapes else 1,
            UPSAMPLERS[real],
        )

    def buffers(self, config: SwinIRConfig) -> dict[str, Tensor]:
        """As `Family.buffers`: indices, and masks of 64 px."""
        return official_buffers(config.depths, config.window)

    def published(self, config: Any, official: dict[str, Tensor]) -> dict[str, Any]:
        """As the authors: those for real pictures have "params_ema"."""
        return {"params_ema" if config.upsampler == UPSAMPLERS[1] else "params": official}

    def shuffled(self, config: SwinIRConfig) -> str | None:
        """The upsampling layer, if it is one."""
        return super().shuffled(config) if config.upsampler == UPSAMPLERS[0] else None


FAMILY = SwinIRFamily()
