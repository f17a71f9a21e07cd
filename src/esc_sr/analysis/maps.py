"""Attention maps, a window at a time, so that no more than one window's scores are there at once."""

from collections.abc import Iterator

import torch
from torch import Tensor

from esc_sr.network.attention import Compared


def window_maps(compared: Compared) -> Iterator[Tensor]:
    """Yield the weights of one window after the other, (heads, n, m), each row summing to 1."""
    for number, (q, k) in enumerate(zip(compared.q, compared.k, strict=True)):
        bias = compared.bias
        if compared.apart is not None:
            masks, kinds = compared.apart
            bias = bias + masks[kinds[number]]
        yield (q @ k.transpose(-2, -1) + bias).softmax(-1)


def mean_map(compared: Compared) -> Tensor:
    """The map averaged over windows and heads (Sec. 3.1: A_avg), (n, m) in float64."""
    total = torch.zeros(*compared.q.shape[2:3], compared.k.shape[2], dtype=torch.float64)
    for weights in window_maps(compared):
        total += weights.mean(0).cpu()
    return total / len(compared.q)
