"""A 1x1 convolution of the results of all blocks, as RDN and BSRN have it."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.network.rows import untouched


def fused(layer: nn.Module, results: Iterable[Tensor]) -> Tensor:
    """What a layer makes of results behind each other, (B, C, H, W) each.

    Args:
        layer: A 1x1 convolution, or several layers of which it is the first. It is added up result by result,
            so that not all are kept, unless it has a hook or was replaced by another one.
        results: They are taken one by one.
    """
    first, *others = layer if isinstance(layer, nn.Sequential) else (layer,)
    if not (untouched(layer, type(layer)) and untouched(first, nn.Conv2d)):
        return layer(torch.cat([*results], 1))
    assert isinstance(first, nn.Conv2d)
    total: Tensor | None = None
    seen = 0
    for x in results:
        weight = first.weight[:, seen : seen + x.shape[1]]
        total = F.conv2d(x, weight, first.bias) if total is None else total + F.conv2d(x, weight)
        seen += x.shape[1]
    assert total is not None
    for other in others:
        total = other(total)
    return total
