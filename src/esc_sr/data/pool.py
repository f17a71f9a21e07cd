"""Mixing of degraded pairs over time, so that a batch does not share one degradation."""

import torch
from torch import Tensor


class PairPool:
    """Pairs of earlier batches; each new batch takes the places of as many pairs drawn from them.

    `degrade` gives all pictures of a batch the same resizing and kind of noise. The pool keeps 8 bits, which
    hold both sides of a pair exactly.
    """

    def __init__(self, size: int = 180) -> None:
        """Take the number of pairs to keep, rounded up to whole batches; 180 is the published one."""
        self.size = size
        self._lr = self._hr = torch.empty(0, dtype=torch.uint8)

    def exchange(self, lr: Tensor, hr: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Give a batch, and take one: the same while the pool fills, a random one of it afterwards.

        Args:
            lr: (B, 3, h, w), 0..1, in steps of 1/255; B, h and w always the same.
            hr: (B, 3, H, W), likewise.
            generator: Source of randomness.

        Returns:
            lr and hr of the same shapes, float32.
        """
        new_lr, new_hr = _to_bytes(lr), _to_bytes(hr)
        if not self.is_full:
            full = len(self._lr) > 0
            self._lr = torch.cat((self._lr.to(lr.device), new_lr)) if full else new_lr
            self._hr = torch.cat((self._hr.to(hr.device), new_hr)) if full else new_hr
            return lr, hr
        self._lr, self._hr = self._lr.to(lr.device), self._hr.to(hr.device)
        places = self._places(len(lr), generator)
        old = self._lr[places].float() / 255, self._hr[places].float() / 255
        self._lr, self._hr = (
            pairs.index_copy(0, places, new) for pairs, new in ((self._lr, new_lr), (self._hr, new_hr))
        )  # as new tensors: what `state_dict` gave stays as it was
        return old

    @property
    def is_full(self) -> bool:
        """Whether as many pairs are there as are to be kept."""
        return len(self._lr) >= self.size

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Give random pairs of a full pool, which stay in it, as `exchange` does."""
        places = self._places(count, generator)
        return self._lr[places].float() / 255, self._hr[places].float() / 255

    def _places(self, count: int, generator: torch.Generator) -> Tensor:
        """Where some random pairs are, each once."""
        order = torch.randperm(len(self._lr), generator=generator, device=generator.device)
        return order[:count].to(self._lr.device)

    def state_dict(self) -> dict[str, Tensor]:
        """The pairs held, for a checkpoint: lr (N, 3, h, w) and hr (N, 3, H, W), uint8, N from 0."""
        return {"lr": self._lr, "hr": self._hr}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on with the pairs of `state_dict`, which are copied."""
        self._lr, self._hr = state["lr"].clone(), state["hr"].clone()


def crop_pairs(lr: Tensor, hr: Tensor, patch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Crop both sides of a batch at one random place, away from what degradation did at the edges.

    Args:
        lr: (B, C, h, w).
        hr: (B, C, s h, s w).
        patch: Side of the LR crop, px; at most h and w.
        generator: Source of randomness.

    Returns:
        (B, C, patch, patch) and (B, C, s patch, s patch).
    """
    scale = hr.shape[2] // lr.shape[2]
    top, left = (
        int(torch.randint(side - patch + 1, (1,), generator=generator, device=generator.device))
        for side in lr.shape[2:]
    )
    low = lr[:, :, top : top + patch, left : left + patch]
    top, left, side = scale * top, scale * left, scale * patch
    return low, hr[:, :, top : top + side, left : left + side]


def _to_bytes(x: Tensor) -> Tensor:
    """0..1 to 0..255."""
    return (x * 255).round().to(torch.uint8)
