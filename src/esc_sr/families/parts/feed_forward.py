"""A feed-forward network with a depthwise convolution in it, as SRFormer has it and others after it."""

import torch.nn.functional as F
from torch import Tensor, nn


class DepthwiseFFN(nn.Module):
    """Two linear layers; between them GELU, and what a depthwise convolution and GELU make of that, added.

    Attributes:
        reach: How far its convolution sees, px.
    """

    def __init__(self, dim: int, hidden: int, kernel: int = 5) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.fc1 = nn.Linear(dim, hidden)
        conv = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden)
        self.dwconv = nn.ModuleDict({"depthwise_conv": nn.Sequential(conv, nn.GELU())})
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        x = F.gelu(self.fc1(x))
        y = self.dwconv["depthwise_conv"](x.permute(0, 3, 1, 2))
        return self.fc2(x + y.permute(0, 2, 3, 1))
