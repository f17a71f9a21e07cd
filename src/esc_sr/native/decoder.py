"""LTE's decoder (Sec. 4.3; LTE, CVPR 2022) by a compiled kernel, in float32."""

import ctypes
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from esc_sr.native.library import Strided, check_not_recording, check_types, filled, new_map, pitch, run

Places = tuple[Tensor, Tensor]
"""Of n rows or columns of a result: those of the features before and behind each, int64 (2, n), and how far
it is from them, in pixels of the features, float32 (2, n)."""


class _Decoder(ctypes.Structure):
    """`Decoder` of levels.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("pictures", "hidden", "layers", "height", "width")),
        *((name, Strided) for name in ("coef", "freq", "y")),
        *((name, ctypes.c_void_p) for name in ("row", "column", "down", "right")),
        *((name, ctypes.c_void_p) for name in ("phase", "sizes", "parameters")),
    ]


def decode(
    coef: Tensor,
    freq: Tensor,
    phase: Tensor,
    layers: Sequence[tuple[Tensor, Tensor]],
    rows: Places,
    columns: Places,
) -> Tensor:
    """Decode the colours of a grid of pixels from features, without a long skip; there are no gradients.

    Args:
        coef: Amplitudes (B, hidden, H, W), on the CPU; hidden even.
        freq: Frequencies (B, hidden, H, W): downwards, to the right, and so on by turns.
        phase: (hidden / 2,), the same for all pixels.
        layers: Weight (out, in) and bias (out,) of each, with ReLUs between them; the first has in = hidden.
        rows: Where the grid's rows are.
        columns: Where its columns are.

    Returns:
        (B, out of the last layer, rows, columns), float32.

    Raises:
        ValueError: Shapes, types or devices are others, a place is outside of the features, or gradients are
            recorded.
        DeviceError: There are no kernels, or there is too little memory.
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
    """
    sizes = [coef.shape[1], *(len(weight) for weight, _ in layers)]
    _check(coef, freq, phase, layers, sizes)
    for places, side in ((rows, coef.shape[2]), (columns, coef.shape[3])):
        _check_places(places, side)
    check_not_recording(coef, freq, phase, *(t for layer in layers for t in layer))
    half = sizes[0] // 2
    freq = freq.float().unflatten(1, (half, 2)).transpose(1, 2).flatten(1, 2)
    coef, freq = (t.float().contiguous(memory_format=torch.channels_last) for t in (coef, freq))
    phase = filled(phase)
    between = pitch(half) - half  # what fills up each half of the first layer's input
    parts = [F.pad(layers[0][0].float().unflatten(1, (2, half)), (0, between)).flatten(1).T]
    parts += [weight.T for weight, _ in layers[1:]]
    parameters = [
        filled(t).flatten() for part, (_, bias) in zip(parts, layers, strict=True) for t in (part, bias)
    ]
    given = torch.cat(parameters)
    y = new_map(len(coef), sizes[-1], rows[0].shape[1], columns[0].shape[1])
    counts = torch.tensor(sizes, device="cpu")
    problem = _Decoder(
        len(y), sizes[0], len(layers), *y.shape[2:], Strided.of(coef), Strided.of(freq), Strided.of(y)
    )
    tensors = {"phase": phase, "sizes": counts, "parameters": given}
    tensors |= dict(zip(("row", "down"), (t.contiguous() for t in rows), strict=True))
    tensors |= dict(zip(("column", "right"), (t.contiguous() for t in columns), strict=True))
    for name, t in tensors.items():
        setattr(problem, name, t.data_ptr())
    run("LTE's decoder", problem)
    return y


def _check(
    coef: Tensor, freq: Tensor, phase: Tensor, layers: Sequence[tuple[Tensor, Tensor]], sizes: list[int]
) -> None:
    """Refuse what the kernel, which trusts its arguments, must not get."""
    wanted = [((sizes[n + 1], sizes[n]), (sizes[n + 1],)) for n in range(len(layers))]
    given = [(tuple(weight.shape), tuple(bias.shape)) for weight, bias in layers]
    fits = coef.dim() == 4 and coef.shape == freq.shape and sizes[0] % 2 == 0 and given == wanted
    if not fits or not layers or min(sizes) < 1 or phase.shape != (sizes[0] // 2,):
        raise ValueError(
            f"{tuple(coef.shape)}, {tuple(freq.shape)}, {tuple(phase.shape)}, {given}: pass twice "
            f"(B, hidden, H, W), (hidden / 2,), and {wanted}"
        )
    check_types(coef, freq, phase, *(t for layer in layers for t in layer))


def _check_places(places: Places, side: int) -> None:
    index, distance = places
    fits = index.dim() == 2 and len(index) == 2 and index.shape == distance.shape
    if not fits or index.dtype != torch.int64 or distance.dtype != torch.float32:
        raise ValueError(f"{tuple(index.shape)}, {tuple(distance.shape)}: pass int64 and float32 (2, n)")
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < side:
        raise ValueError(f"places {int(index.min())} to {int(index.max())}: pass 0 to {side - 1}")
