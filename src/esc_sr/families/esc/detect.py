"""Which network a set of names and shapes belongs to, and its sizes."""

import math
import re
from collections.abc import Iterable

import torch
from torch import Tensor

from esc_sr.families.esc.config import ESCConfig
from esc_sr.families.esc.upsamplers import UPSAMPLERS, build_upsampler
from esc_sr.families.family import ForeignError, Shapes
from esc_sr.families.shapes import without_numbers

# What ESC's later relatives and conversions have, and ESC has not; the first that fits is told.
FOREIGN = (
    ("blocks.0.attn.to_hidden", "ESC-RIB"),
    (
        "blocks.0.attn.rpe_bias",
        "ESC converted for mobile devices (rpe_bias); take the weights it was made from",
    ),
)
# Upsampling methods of the authors' ESC-Real-M (block version 2) and traiNNer-redux's (3), as
# `to_img.MetaUpsample` counts them: version, method, scale, channels in, out and inside, groups.
META_NAME = "to_img.MetaUpsample"
META_VERSIONS = {2: "authors", 3: "traiNNer-redux"}
META_METHODS = ("conv", "pixelshuffledirect", "pixelshuffle", "nearest+conv", "dysample")
META_FOREIGN = ("transpose+conv", "lda", "pa_up")


def foreign_dialect(names: Iterable[str]) -> str | None:
    """Name the relative of ESC that these parameter names show and that cannot be loaded."""
    known = set(names)
    for start, network in FOREIGN:
        if any(name.startswith(start) for name in known):
            return network
    if {"to_img.1.weight", "to_img.3.weight"} <= known:
        return "neosr's ESC with two convolutions after each enlargement (realsr without DySample)"
    if {"lk_channel", "skip.0.weight"} <= known:
        return "neosr's ESC-FP with realsr on"
    return None


def read_meta(vector: Tensor | None) -> tuple[str, int | None]:
    """Read dialect and enlargement from a MetaUpsample vector; where there is none, the authors' and none.

    Raises:
        ForeignError: It tells of an upsampler that cannot be loaded.
    """
    if vector is None:
        return "authors", None
    meta = [int(value) for value in vector.flatten().tolist()]
    version, method, scale = meta[:3] if len(meta) == 7 else (-1, -1, -1)
    methods = (*META_METHODS, *META_FOREIGN)
    if version not in META_VERSIONS or method >= len(methods):
        raise ForeignError(f"ESC-Real-M with an upsampler of another make (MetaUpsample {meta})")
    if methods[method] in META_FOREIGN or (methods[method] == "conv" and scale > 1):
        raise ForeignError(
            f"ESC-Real-M ({META_VERSIONS[version]}) with the upsampler {methods[method]!r} at x{scale}"
        )
    return META_VERSIONS[version], scale


def write_meta(config: ESCConfig) -> Tensor:
    """The MetaUpsample vector of the authors' ESC-Real-M, as `read_meta` takes it."""
    method = META_METHODS.index(config.upsampler.replace("dysampledirect", "dysample"))
    inside = config.dim if config.upsampler == "dysampledirect" else config.upsampler_width
    vector = [2, method, config.scale * config.unshuffle, config.dim, 3, inside, 4]
    return torch.tensor(vector, dtype=torch.uint8)


def infer(shapes: Shapes, enlargement: int | None = None, encoder: bool = False) -> ESCConfig:
    """Infer the sizes of a network from the names and shapes of its parameters.

    Args:
        shapes: Shapes by our parameter names.
        enlargement: That of the upsampler, where it is known; x2 and x3 of nearest+conv look the same.
        encoder: There is no upsampler.

    Returns:
        A config whose network has the parameters that `shapes` shows; to be compared with all of them.
        Without self-attention it has one head and windows of one pixel; without ConvAttns the usual kernel on
        all channels, and the other expansion.

    Raises:
        KeyError: A tensor that is needed to tell is missing; the error carries its name.
        ValueError: The sizes are those of no network of the family.
    """
    if encoder:
        return _infer_esc(shapes, None)
    upsampler = {
        name.removeprefix("upsampler."): s for name, s in shapes.items() if name.startswith("upsampler.")
    }
    return _infer_esc(shapes, _infer_upsampler(upsampler, shapes["head.weight"][0], enlargement))


def _infer_esc(shapes: Shapes, upsampler: tuple[str, int, int] | None) -> ESCConfig:
    """Sizes of an ESC; the upsampler has a kind, a width and an enlargement, an encoder has none."""
    dim, channels = shapes["head.weight"][:2]
    names = "\n".join(shapes)
    decomposed = "large_kernel.spatial" in shapes
    first_expansion = _ratio(shapes["blocks.0.ffn_in.expand.weight"][0], dim)
    n_convattn = _count(shapes, r"blocks\.0\.convattns\.(\d+)\.")
    own_kernels = "blocks.0.convattns.0.large_kernel.weight" in shapes
    kernel: tuple[int, ...] = (dim, ESCConfig.kernel)
    expansion = first_expansion
    if n_convattn:
        place = "blocks.0.convattns.0." if own_kernels else ""
        kernel = shapes[f"{place}large_kernel.{'spatial' if decomposed else 'weight'}"]
        expansion = _ratio(shapes["blocks.0.ffns.0.expand.weight"][0], dim)
    n_attn, heads, offsets = 0, 1, 1
    if "blocks.0.attn." in names:
        n_attn = 1 + _count(shapes, r"blocks\.0\.more_attns\.(\d+)\.")
        heads, offsets = shapes["blocks.0.attn.bias_table"]
    unshuffle = _root(channels, 3, "input channels")
    kind, width, enlargement = upsampler or (ESCConfig.upsampler, ESCConfig.upsampler_width, 2)
    if enlargement % unshuffle:
        raise ValueError(f"enlargement {enlargement} is no multiple of the folding {unshuffle}")
    skip = "conv" if "skip.0.weight" in shapes else "bicubic" if decomposed else "nearest"
    return ESCConfig(
        scale=enlargement // unshuffle,
        dim=dim,
        pdim=kernel[0],
        kernel=kernel[-1],
        n_blocks=_count(shapes, r"blocks\.(\d+)\."),
        n_convattn=n_convattn,
        window=(_root(offsets, 1, "position biases") + 1) // 2,
        heads=heads,
        expansion=expansion,
        first_expansion=first_expansion,
        ffn_norm="blocks.0.ffn_norms.0.weight" in shapes,
        decomposed=decomposed,
        skip=skip if upsampler else ESCConfig.skip,
        upsampler=kind,
        upsampler_width=width,
        unshuffle=unshuffle,
        n_attn=n_attn,
        own_kernels=own_kernels,
        dynamic=not n_convattn or "blocks.0.convattns.0.estimator." in names,
    )


def _infer_upsampler(shapes: Shapes, dim: int, enlargement: int | None) -> tuple[str, int, int]:
    """Find kind, width and enlargement of an upsampler by building the possible ones."""
    found = {name: shape for name, shape in shapes.items() if name.endswith("weight")}
    if not found:
        raise KeyError("upsampler.0.weight")
    for kind in UPSAMPLERS:
        inside = kind in ("pixelshuffle", "dysample")
        width = found.get("0.weight", (0,))[0] if inside else ESCConfig.upsampler_width
        direct = kind == "pixelshuffledirect"
        for scale in range(1, 9) if direct else (4,) if kind == "realesrgan" else (4, 3, 2, 8):
            if enlargement not in (None, scale) or not width:
                continue
            with without_numbers():
                built = build_upsampler(kind, dim, width, scale).state_dict()
            if found == {name: tuple(t.shape) for name, t in built.items() if name.endswith("weight")}:
                return kind, width, scale
    told = f" at x{enlargement}" if enlargement else ""
    seen = ", ".join(f"{name} {shape}" for name, shape in list(found.items())[:3])
    raise ValueError(f"its upsampler fits none of {', '.join(UPSAMPLERS)}{told}; it has {seen}")


def _ratio(hidden: int, dim: int) -> float:
    """The expansion for which int(dim * expansion) is hidden."""
    ratio = hidden / dim
    return ratio if int(dim * ratio) == hidden else math.nextafter(ratio, math.inf)


def _root(total: int, of: int, what: str) -> int:
    """The n of total = of * n^2."""
    root = math.isqrt(total // of)
    if of * root**2 != total:
        raise ValueError(f"{total} {what} are not {of} times a square")
    return root


def _count(names: Iterable[str], pattern: str) -> int:
    """How many different numbers stand at this place of the names."""
    return len({match[1] for name in names if (match := re.match(pattern, name))})
