"""An ICC profile of what a PNG says of its colours by itself: a gamma, and the places of its primaries."""

import struct

import numpy as np

_SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)  # as in cHRM
_NEAR = 1000  # of its units, by which primaries may differ and count as the same
_D50 = np.array([0.9642, 1.0, 0.8249])
_CONES = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""Bradford's, by which white is adapted to that of ICC profiles."""


def gamma_profile(gamma: int, primaries: tuple[int, ...], grey: bool) -> bytes | None:
    """Make a profile of gAMA and cHRM.

    Args:
        gamma: As in gAMA: the power by which light became the file's values, in units of 1/100,000.
        primaries: As in cHRM, x and y of white, red, green and blue in such units; none are those of sRGB.
        grey: Whether it is for grey; otherwise for RGB.

    Returns:
        The profile; None of what is sRGB or as good as that, or makes no sense.
    """
    curve = round(100_000 / gamma * 256) if gamma else 0
    if not 0 < curve < 2**16:
        return None
    own = primaries and not grey and np.abs(np.subtract(primaries, _SRGB)).max() > _NEAR
    if not own and abs(2.2 * gamma - 100_000) < 5000:
        return None
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 11) + b"PNG's gAMA\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz(_D50),
    }
    curves = b"curv" + bytes(4) + struct.pack(">IH", 1, curve)
    if grey:
        tags[b"kTRC"] = curves
    else:
        for name, colorant in zip("rgb", _colorants(primaries if own else _SRGB), strict=True):
            tags |= {f"{name}XYZ".encode(): _xyz(colorant), f"{name}TRC".encode(): curves}
    return _packed(b"GRAY" if grey else b"RGB ", tags)


def _colorants(places: tuple[int, ...]) -> np.ndarray:
    """XYZ of red, green and blue, a row each, under D50; those of sRGB for places that make no colours."""
    x, y = np.reshape(places, (4, 2)).T / 100_000
    with np.errstate(all="ignore"):
        white, *primaries = np.stack([x / y, y / y, (1 - x - y) / y], axis=1)
        adapted = np.linalg.solve(_CONES, np.diag(_CONES @ _D50 / (_CONES @ white)) @ _CONES)
        try:
            shares = np.linalg.solve(np.transpose(primaries), white)
        except np.linalg.LinAlgError:
            return _colorants(_SRGB)
        colorants = shares[:, None] * primaries @ adapted.T
    return colorants if np.abs(colorants).max() < 4 else _colorants(_SRGB)


def _xyz(place: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in place))


def _packed(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A display's profile of version 2.4."""
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">2I", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI4s4s4s", start + len(body), 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H4s28x3i48x", 2000, 1, 1, 0, 0, 0, b"acsp", 0xF6D6, 0x10000, 0xD32D)
    return head + table + body
