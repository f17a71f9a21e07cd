"""The networks that are measured, and the sizes of pictures they are measured on (Sec. 4.2)."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from esc_sr import families, native, paper
from esc_sr.errors import UsageError
from esc_sr.families.contract import Network
from esc_sr.families.esc.presets import ABLATIONS
from esc_sr.upscaling.runner import Sides

OUTPUT: Sides = (720, 1280)
"""The picture that the paper's statistics are of."""


def published() -> list[str]:
    """The names of all networks but those of the paper's ablations (Table 3)."""
    return [name for name in families.presets() if name not in ABLATIONS]


def systems() -> Iterator[dict[str, Any]]:
    """Tell of all networks of `published` what they are, and where their weights are.

    Yields:
        Records: name, network (its family's name), paper (what the paper's tables call it, or None),
        parameters by scale, and weights (`Family.home`).
    """
    for family in families.FAMILIES:
        for name in (name for name in family.presets if name not in ABLATIONS):
            yield {
                "name": name,
                "network": family.name,
                "paper": paper.METHODS.get(name),
                "parameters": {scale: _parameters(name, scale) for scale in families.scales(name)},
                "weights": family.home,
            }


def _parameters(name: str, scale: int) -> int:
    """How many parameters a preset has."""
    return sum(p.numel() for p in blank(name, scale).parameters())


def build(name: str, scale: int) -> Network:
    """Build a network with fresh weights, ready to use.

    Args:
        name: A preset.
        scale: One of `families.scales`; a network for any size is the same at each.

    Raises:
        UsageError: No such network, or not at this scale.
    """
    return families.build(families.preset(name, scale)).eval()


def blank(name: str, scale: int) -> Network:
    """As `build`, but without numbers, on the device "meta"."""
    return families.blank(families.preset(name, scale)).eval()


def select(names: Iterable[str], wanted: Iterable[int]) -> list[tuple[str, int]]:
    """Pair names with those of the wanted scales that they have, scale by scale.

    Raises:
        UsageError: A name is none, or a scale is none of any of these networks.
    """
    there = {name: families.scales(name) for name in names}
    pairs = []
    for scale in wanted:
        found = [(name, scale) for name in there if scale in there[name]]
        if not found:
            raise UsageError(f"no scale {scale}: {', '.join(f'{name} has {there[name]}' for name in there)}")
        pairs += found
    return pairs


def kernels_of(backend: str) -> AbstractContextManager[None]:
    """Leave everything to torch, unless the backend is one that uses the compiled kernels."""
    return nullcontext() if backend in ("auto", "native") else native.without()


def parse_sides(text: str) -> Sides:
    """Read WIDTHxHEIGHT as height and width.

    Raises:
        UsageError: It is not that.
    """
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"size {text!r} is not WIDTHxHEIGHT in pixels, for example 1280x720")
    return int(height), int(width)


def input_for(output: Sides, scale: int) -> Sides:
    """Height and width of the LR picture for an output, rounded down as the paper does: 240, 426 for x3.

    Raises:
        UsageError: The output is smaller than the scale.
    """
    height, width = output[0] // scale, output[1] // scale
    if not (width and height):
        raise UsageError(f"an output of {output[1]}x{output[0]} leaves nothing to enlarge x{scale}")
    return height, width
