"""Working through a picture in bands of rows, exactly."""

from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esc_sr import native

BAND_PIXELS = 2**16
"""Pixels of a band unless the caller chooses: on a CPU, what the allocator can use again and again."""


def _empty(like: Tensor, shape: Sequence[int]) -> Tensor:
    """A full map beside the tensor whose type it shares; channels last, so that a band is in one place."""
    return torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _nothing(rows: float) -> None:
    """Hear of finished rows."""


@dataclass(frozen=True)
class Bands:
    """How to work through a picture when no gradient is recorded: band by band, maps changed in place.

    The results are those of the picture in one piece, whatever the height of the bands.

    Attributes:
        rows: Height of a band of the maps, from 1; stages may take more or fewer.
        device: Where the stages compute, which need not be where the maps lie.
        new_map: Makes an uninitialised map of the type of a tensor and of a shape (B, C, H, W). Where it
            lies, in another memory or in a file, is nobody else's business.
        kernels: Where the dynamic kernels of the first picture are kept, for all that follow; with None, each
            has its own.
        done: Is told, after each band of each stage, how many rows of the maps it had. In all, these are the
            height of the maps times the `passes` of the network.
    """

    rows: int
    device: torch.device
    new_map: Callable[[Tensor, Sequence[int]], Tensor] = _empty
    kernels: dict[object, Tensor | None] | None = None
    done: Callable[[float], object] = _nothing


def divisible(x: Tensor) -> bool:
    """Tell whether a map may be cut up: gradients, graphs and the device "meta" need it in one piece."""
    return not (torch.is_grad_enabled() or native.looked_on() or x.is_meta)


def default_bands(x: Tensor) -> Bands | None:
    """How a forward works through a picture (B, C, H, W): in bands, or None, in one differentiable piece."""
    if not divisible(x):
        return None
    return Bands(max(BAND_PIXELS // x.shape[3], 1), x.device)


Layers = tuple[type[nn.Module], ...]
"""What the modules of a network are, itself first."""


def layers_of(network: nn.Module) -> Layers:
    """What its modules are; a network keeps it, as it is built, for `applies`."""
    return tuple(map(type, network.modules()))


def applies(network: nn.Module, made_of: Layers, x: Tensor) -> bool:
    """Tell whether a network's forward on an input (B, C, H, W) is executed band by band, not layer by layer.

    It is not where nothing would be gained, which is in one piece without kernels: where gradients are
    recorded on a GPU, on the device "meta", and where torch looks on. Nor is it where any layer has a hook,
    which is to see what the layer takes and gives, of the whole picture, or was replaced by another one.

    Args:
        network: The network.
        made_of: `layers_of` it, when it was built.
        x: The input.
    """
    if default_bands(x) is None and not native.takes(x) or _hooked_everywhere():
        return False
    layers = list(network.modules())
    if len(layers) != len(made_of) or _changed(network, made_of[0]):
        return False
    return not any(map(_touched, layers[1:], made_of[1:]))


def untouched(layer: nn.Module, built: type[nn.Module]) -> bool:
    """Tell whether a layer may be computed by other means: it is of the class, and nobody has put a hook."""
    return not (_hooked_everywhere() or _touched(layer, built))


def _hooked_everywhere() -> bool:
    """Tell whether there is a hook on all layers there are."""
    return any(_hooks(nn.modules.module, "_global"))


def _touched(layer: nn.Module, built: type[nn.Module]) -> bool:
    """Tell whether a layer has a hook of its own, or does not compute what the class does."""
    return any(_hooks(layer)) or _changed(layer, built)


def _changed(layer: nn.Module, built: type[nn.Module]) -> bool:
    """Tell whether a layer does not compute what the class does."""
    return type(layer).forward is not built.forward or "forward" in vars(layer)


def _hooks(owner: object, prefix: str = "") -> Iterator[Sized]:
    """The hooks on a layer, or on all there are."""
    kinds = ("forward_pre_hooks", "forward_hooks", "backward_pre_hooks", "backward_hooks")
    return (getattr(owner, f"{prefix}_{kind}") for kind in kinds)


def walk(
    stage: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    bands: Bands | None,
    halo: int = 0,
    align: int = 1,
    share: float = 1,
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """Apply a local stage to one band of rows after the other.

    Whoever takes a band's results may write them into the inputs: what the next band needs is kept.

    Args:
        stage: Bands (B, C, h, W), one of each input, to results (B, C', s h, s W), for any h; a result's row
            may depend on input rows up to `halo` away, or on those of its own group of `align` rows.
        inputs: Maps (B, C, H, W) of one height.
        bands: Their height, and where the stage computes; None makes it one band.
        halo: Reach of the stage in rows, upwards and downwards.
        align: Bands start at multiples of this many rows, and have at least so many.
        share: Times the usual height, for a stage that takes more or less memory than others.

    Yields:
        The first input row of a band, and the stage's results for its rows alone.
    """
    if bands is None:
        yield 0, stage(*inputs)
        return
    height = inputs[0].shape[2]
    rows = max(int(bands.rows * share) // align, 1) * align
    tops = range(0, max(height - align + 1, 1), rows)
    above = [x[:, :, :0] for x in inputs]
    for top, bottom in zip(tops, [*tops[1:], height], strict=True):
        first = top - above[0].shape[2]
        cuts = [x[:, :, top : bottom + halo].to(bands.device) for x in inputs]
        if top > first:
            cuts = [torch.cat(pair, 2) for pair in zip(above, cuts, strict=True)]
        results = stage(*cuts)
        above = [cut[:, :, max(bottom - halo - first, 0) : bottom - first].clone() for cut in cuts]
        scale = results[0].shape[2] // cuts[0].shape[2]
        del cuts
        bands.done(bottom - top)
        yield top, tuple(y[:, :, (top - first) * scale : (bottom - first) * scale] for y in results)


def _lies_last(y: Tensor) -> bool:
    """Tell whether a map lies as `_empty` makes them."""
    return y.is_contiguous(memory_format=torch.channels_last)


def sum_of(y: Tensor, onto: Tensor | None = None) -> Tensor:
    """Give y as it is, or added to `onto`, in place."""
    return y if onto is None else onto.add_(y.to(onto.device))


def rowwise_each(
    stage: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    bands: Bands | None,
    onto: Sequence[Tensor | None],
    halo: int = 0,
    align: int = 1,
    share: float = 1,
    add: Callable[..., Tensor] = sum_of,
) -> tuple[Tensor, ...]:
    """Apply a local stage with several results to whole maps; arguments as in `walk`, and two more.

    Args:
        stage: As there; results are as high as the inputs, and those that become maps are nobody else's.
        inputs: As there.
        bands: As there; None applies the stage once, out of place.
        onto: For each result the map that it is added to, which may be an input, or None for a new map.
        halo: As there.
        align: As there.
        share: As there.
        add: What each pixel of a result goes through before it is added: called with it alone, or with the
            rows that it is to be added to in place, as `sum_of`.

    Returns:
        The sums and the new maps; with bands, the sums are in place.
    """
    if bands is None:
        pairs = zip(stage(*inputs), onto, strict=True)
        return tuple(y if base is None else base + add(y) for y, base in pairs)
    shape = inputs[0].shape
    maps = list(onto)
    for top, results in walk(stage, inputs, bands, halo, align, share):
        for n, (y, base) in enumerate(zip(results, onto, strict=True)):
            target = maps[n]
            if target is None:
                if bands.new_map is _empty and y.shape[2] == shape[2] and _lies_last(y):
                    maps[n] = y  # one band is the whole
                    continue
                target = maps[n] = bands.new_map(y, (*y.shape[:2], *shape[2:]))
            rows = target[:, :, top : top + y.shape[2]]
            if base is None:
                rows.copy_(y)
            else:
                add(y, rows)
    return tuple(x for x in maps if x is not None)


def rowwise(
    stage: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    bands: Bands | None,
    onto: Tensor | None = None,
    halo: int = 0,
    align: int = 1,
    share: float = 1,
    add: Callable[..., Tensor] = sum_of,
) -> Tensor:
    """`rowwise_each` for a stage with one result."""
    (out,) = rowwise_each(lambda *x: (stage(*x),), inputs, bands, (onto,), halo, align, share, add)
    return out


def join(bands: Iterator[tuple[int, Tensor]], height: int) -> Tensor:
    """Put bands (B, C, h, W), each with its first row, together to (B, C, height, W); one stays as it is."""
    out: Tensor | None = None
    for top, band in bands:
        if band.shape[2] == height:
            return band
        if out is None:
            out = band.new_empty(*band.shape[:2], height, band.shape[3])
        out[:, :, top : top + band.shape[2]] = band
    assert out is not None
    return out
