"""The published sizes, by name: only what differs from ESC (Supp. 6.1 to 6.3)."""

from dataclasses import replace

from esc_sr.errors import UsageError
from esc_sr.families.esc import ESCConfig

_ESC = ESCConfig()
_REAL = replace(_ESC, n_blocks=10, expansion=2.0, ffn_norm=True, skip="conv", upsampler="realesrgan")
_XL = replace(_ESC, dim=192, pdim=48, n_blocks=8, window=48, heads=12, ffn_norm=True)

PRESETS: dict[str, ESCConfig] = {
    "esc": _ESC,
    "esc-light": replace(_ESC, n_blocks=3),
    "esc-fp": replace(
        _ESC, dim=48, heads=3, first_expansion=1.5, ffn_norm=True, decomposed=True, skip="bicubic"
    ),
    "esc-xl": _XL,
    "esc-real": _REAL,
    "esc-real-m": replace(_REAL, upsampler="nearest+conv"),
    "esc-real-xl": replace(_REAL, dim=128, pdim=32, n_blocks=16, heads=8),
    "esc-lte": _ESC,
}


def preset(name: str, scale: int) -> ESCConfig:
    """Look up the sizes of a published network.

    Args:
        name: One of `PRESETS`.
        scale: 2, 3 or 4; ESC-Real has 4 only, ESC-Real-M has 1 as well.

    Returns:
        Its configuration at that scale.

    Raises:
        UsageError: No such network, or not at this scale.
    """
    if scale not in scales(name):
        raise UsageError(f"{name} has no scale {scale}; it has {', '.join(map(str, scales(name)))}")
    unshuffle = 4 // scale if name == "esc-real-m" and scale < 3 else 1
    return replace(PRESETS[name], scale=scale, unshuffle=unshuffle)


def scales(name: str) -> tuple[int, ...]:
    """The scales that a published network has; of ESC+LTE, which has any, those of the others.

    Raises:
        UsageError: No such network.
    """
    if name not in PRESETS:
        raise UsageError(f"no network is called {name!r}; there are {', '.join(PRESETS)}")
    return {"esc-real": (4,), "esc-real-xl": (4,), "esc-real-m": (1, 2, 3, 4)}.get(name, (2, 3, 4))
