"""Normalisation of layers and of batches."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the last axis.

    Under autocast on a CPU it computes in float32: in bfloat16 torch adds up the gradients of weight and bias
    in bfloat16 there, which makes them wrong by more than half.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to the same shape."""
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float()).to(x.dtype)
        return super().forward(x)


class LayerNorm2d(LayerNorm):
    """The same over the channels of (B, C, H, W), eps 1e-6."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel of (B, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that does not count its batches: nothing follows from that."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.num_batches_tracked = None

    def _load_from_state_dict(
        self, state: dict[str, Any], prefix: str, metadata: Mapping[str, Any], *others: Any
    ) -> None:
        """Keep torch from putting a count into states that have none, as older ones had not."""
        super()._load_from_state_dict(state, prefix, {**metadata, "version": self._version}, *others)
