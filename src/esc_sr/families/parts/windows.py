"""Shifted windows (Swin, Liu et al. 2021): every second block attends in windows between the others'."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.parts.bands import in_bands, roll
from esc_sr.network.attention import (
    Compared,
    SelfAttention,
    attend_naive,
    attend_windows,
    cut_windows,
    fuses,
    join_windows,
    position_bias,
    window_places,
)

APART = -100.0
"""Added to scores of pixels that only the roll has made neighbours."""

TRAINED_SIDE = 64
"""Side of the pictures that masks in files are for, px."""


class ShiftedAttention(SelfAttention):
    """Self-attention in windows, with a bias for each offset; maps are (B, H, W, C), of whole windows."""

    def __init__(self, dim: int, window: int, heads: int, shift: int = 0) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, qkv: Callable[[Tensor], Tensor]) -> Tensor:
        """Attend in windows that are shifted by `shift`, in bands where no gradient is recorded.

        Args:
            x: A map (B, H, W, C).
            qkv: Makes of each of its pixels a query, a key and a value (..., 3 C).

        Returns:
            What was attended to, projected (B, H, W, C).
        """
        table = self.table()

        def attended(band: Tensor, last: bool) -> Tensor:
            shifts = self.shift * last, self.shift
            y = attend_shifted(qkv(band).permute(0, 3, 1, 2), table, self.window, shifts, self.backend)
            return self.proj(y.permute(0, 2, 3, 1))

        return in_bands(attended, x, self.window, shift=self.shift)

    def table(self) -> Tensor:
        """Biases as of `attend_shifted`: of key minus query, where the parameter has query minus key."""
        return self.relative_position_bias_table.T.flip(1)

    def compared(self, x: Tensor, *others: Any) -> Compared:
        """What `forward` compares."""
        (qkv,), table = others, self.table()
        rolled = qkv(roll(x, self.shift)).permute(0, 3, 1, 2)
        q, k, _ = cut_windows(rolled, len(table), self.window)
        down, across = (side // self.window for side in rolled.shape[2:])
        last = [torch.arange(count, device=x.device) == count - 1 for count in (down, across)]
        kinds = (2 * last[0][:, None] + last[1].long()).flatten().repeat(len(x))
        ends = [(0, 0), (0, self.shift), (self.shift, 0), (self.shift, self.shift)]
        apart = torch.stack([seams(self.window, shifts, table) for shifts in ends])
        bias, places = position_bias(table, self.window), window_places(self.window, x.device)
        return Compared(q * q.shape[-1] ** -0.5, k, bias, (places, places), (apart, kinds))


def attend_shifted(
    qkv: Tensor, table: Tensor, window: int, shifts: tuple[int, int], backend: str = "auto"
) -> Tensor:
    """Attend within each window of a map that was rolled up and to the left.

    In the last windows of each axis are pixels from both edges of the picture, which do not see each other;
    all others are as without a roll.

    Args:
        qkv: Queries, keys and values (B, 3 heads d, H, W), H and W whole windows.
        table: Relative position biases (heads, (2 window - 1)^2) of key minus query, rows first.
        window: Side of the window in pixels.
        shifts: How many rows and columns from the other edge are in the last windows; 0 if there are none.
        backend: As in `attention.attend`.

    Returns:
        (B, heads d, H, W), still rolled.
    """

    def attended(part: Tensor, shifts: tuple[int, int]) -> Tensor:
        if any(shifts):
            return _attend_edges(part, table, window, shifts, backend)
        return attend_windows(part, table, window, backend)

    return over_ends(qkv, window, shifts, attended)


def over_ends(
    x: Tensor, window: int, shifts: tuple[int, int], attend: Callable[[Tensor, tuple[int, int]], Tensor]
) -> Tensor:
    """Attend apart in the last windows of each axis, if they hold pixels of both edges, and in all others.

    Args:
        x: A map (B, C, H, W), whole windows, rolled.
        window: Side of the windows.
        shifts: As of `attend_shifted`.
        attend: A part of the map, and the shifts of it that are not 0, to (B, C', h, w).

    Returns:
        (B, C', H, W), still rolled.
    """
    rows = []
    for y, down in _ends(x, 2, window, shifts[0]):
        row = [attend(part, (down, across)) for part, across in _ends(y, 3, window, shifts[1])]
        rows.append(_joined(row, 3, y.shape[3]))
    return _joined(rows, 2, x.shape[2])


def _ends(x: Tensor, axis: int, window: int, shift: int) -> list[tuple[Tensor, int]]:
    """All windows along an axis but the last, if there are any, and the last, with its shift.

    In a graph, which takes pictures of one window too and can have no map of none, it is all, and the last.
    """
    if not shift:
        return [(x, 0)]
    most = x.shape[axis] - window
    if torch.compiler.is_compiling():
        return [(x, 0), (_taken(x, axis, most, window), shift)]
    last = x.narrow(axis, most, window), shift
    return [(x.narrow(axis, 0, most), 0), last] if most else [last]


def _joined(parts: list[Tensor], axis: int, side: int) -> Tensor:
    """What was made of `_ends`, so long again."""
    if len(parts) == 1:
        return parts[0]
    rest, last = parts
    if torch.compiler.is_compiling():
        rest = _taken(rest, axis, 0, side - last.shape[axis])
    return torch.cat((rest, last), axis)


def _taken(x: Tensor, axis: int, first: int, length: int) -> Tensor:
    """As `narrow`, which in a graph gives nobody knows how much where it does not begin at a number."""
    return x.index_select(axis, torch.arange(length, device=x.device) + first)


def _attend_edges(qkv: Tensor, table: Tensor, window: int, shifts: tuple[int, int], backend: str) -> Tensor:
    """Attend within windows that hold pixels of both edges, along the axes that have a shift."""
    q, k, v = cut_windows(qkv, len(table), window)
    bias = (position_bias(table, window) + seams(window, shifts, table)).to(q.dtype)
    return join_windows(attend_biased(q, k, v, bias, backend), qkv, window)


def embedded_biases(layer: nn.Module, window: int, device: torch.device) -> Tensor:
    """Biases (heads, (2 window - 1)^2), by key minus query, that a layer has by query minus key."""
    biases: Tensor = layer(torch.arange((2 * window - 1) ** 2, device=device))
    return biases.T.flip(1)


def attend_biased(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, backend: str) -> Tensor:
    """As `attend_naive`; backends other than "naive" leave it to torch, where that `fuses`."""
    if backend != "naive" and fuses(q):
        return F.scaled_dot_product_attention(q, k, v, None if bias is None else bias[None])
    return attend_naive(q, k, v, bias)


def seams(window: int, shifts: tuple[int, int], like: Tensor, fold: int = 1) -> Tensor:
    """What is added to scores (n, m) in a window that holds pixels of both edges of a rolled map.

    Args:
        window: Side of the window, n = window^2.
        shifts: Pixels of the other edge in its rows and columns; 0 without any.
        like: Where and of which type.
        fold: Side of the squares of pixels that are one key, m = n / fold^2.
    """
    side = torch.arange(window, device=like.device)
    down, across = (side >= window - shift for shift in shifts)
    region = 2 * down[:, None] + across
    return (region.flatten()[:, None] != region[::fold, ::fold].flatten()).to(like.dtype) * APART


def position_index(window: int, fold: int = 1) -> Tensor:
    """Where in a table of biases that of each query and key is, of `seams`' sizes: (n, m)."""
    pixels, side = window_places(window, torch.device("cpu")), window // fold
    keys = window_places(side, pixels.device)
    offsets = pixels[:, None] // fold - keys + side - 1  # (n, m, 2)
    return offsets[..., 0] * (2 * side - 1) + offsets[..., 1]


def shift_mask(window: int, side: int, fold: int = 1) -> Tensor:
    """`seams` of all windows of a square map, shifted by half of a window: (windows, n, m)."""
    count, like = side // window, torch.zeros(())
    ends = [window // 2 * (number == count - 1) for number in range(count)]
    return torch.stack([seams(window, (down, across), like, fold) for down in ends for across in ends])


def official_buffers(
    depths: tuple[int, ...], window: int, fold: int = 1, index_name: str = "relative_position_index"
) -> dict[str, Tensor]:
    """What SwinIR's authors keep in files beside weights: an index in each block, a mask in every second.

    Args:
        depths: Blocks of each group.
        window: Side of the windows, px.
        fold: As of `seams`.
        index_name: What files call the index.
    """
    index, mask = position_index(window, fold), shift_mask(window, TRAINED_SIDE, fold)
    found = {}
    for group, depth in enumerate(depths):
        for number in range(depth):
            block = f"layers.{group}.residual_group.blocks.{number}."
            found[f"{block}attn.{index_name}"] = index.clone()
            if number % 2:
                found[f"{block}attn_mask"] = mask.clone()
    return found
