"""What the bundled weights make of flat and smooth pictures: no tint, no grid, no frame."""

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from esc_sr import Upscaler, upscale, weights
from esc_sr.bicubic import resize
from esc_sr.families.esc import ESC
from esc_sr.families.lte import EncoderLTE
from esc_sr.upscaling.frame import FRAME

CASES = [*((name, None) for name, _, _ in weights.bundled()), ("esc-light-real-x4", 0.5)]
"""All bundled weights, and what lies between those that are mixed."""

GREYS = [(level,) * 3 for level in (0, 64, 128, 235, 255)]
SATURATED = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)]
COLOURS = np.array([*GREYS, *SATURATED, (120, 170, 230)], np.float32) / 255
SIDE = 128


class Sky(NamedTuple):
    """A smooth picture as a network enlarges it, in levels of 255.

    Attributes:
        error: Largest difference of a pixel (H, W) from the picture itself.
        edges: Mean step from one row or column to the next at the edges of windows, of what is not bicubic.
        elsewhere: The same between all others.
        scale: Of the enlargement.
    """

    error: NDArray[np.float64]
    edges: float
    elsewhere: float
    scale: int


def sky(side: int) -> NDArray[np.float64]:
    """A sky, (side, side, 3), 0..1: blue above, bright below."""
    along = (np.arange(side) + 0.5) / side
    down = (0.95 * along[:, None] + 0.05 * along)[:, :, None]
    above, below = np.array([120, 160, 210]), np.array([165, 192, 226])
    return (above + (below - above) * down) / 255


@cache
def enlarged_sky(name: str, denoise: float | None) -> Sky:
    network = weights.load(name, denoise=denoise)
    assert isinstance(network, ESC | EncoderLTE)
    window = network.window
    picture = sky(SIDE).astype(np.float32)
    result = upscale(picture, network, scale=network.config.scale if isinstance(network, ESC) else 2)
    scale = len(result) // SIDE
    smooth = resize(torch.from_numpy(picture).permute(2, 0, 1), result.shape[:2]).permute(1, 2, 0).numpy()
    steps = [np.abs(np.diff(result - smooth, axis=axis)).mean((1 - axis, 2)) * 255 for axis in (0, 1)]
    edges = np.arange(window - FRAME, SIDE, window) * scale - 1
    apart = np.setdiff1d(np.arange(len(steps[0])), edges)
    error = np.abs(result - sky(SIDE * scale)).max(2) * 255
    at_edges, others = (float(np.mean([step[where] for step in steps])) for where in (edges, apart))
    return Sky(error, at_edges, others, scale)


@pytest.mark.parametrize(("name", "denoise"), CASES)
def test_flat_pictures_stay_flat(name: str, denoise: float | None) -> None:
    lr = torch.from_numpy(COLOURS)[:, :, None, None].expand(-1, 3, 20, 40).clone()
    sr = Upscaler(name, 2 if name == "esc-lte" else None, denoise=denoise).upscale(lr)
    wrong = (sr - lr[:, :, :1, :1]).abs().amax((1, 2, 3)) * 255
    assert wrong.max() <= 1.5, COLOURS[wrong.argmax()] * 255


@pytest.mark.parametrize(("name", "denoise"), CASES)
def test_a_sky_shows_no_windows(name: str, denoise: float | None) -> None:
    found = enlarged_sky(name, denoise)
    assert found.edges <= 0.1, f"{found.edges:.3f}, elsewhere {found.elsewhere:.3f}"


@pytest.mark.parametrize(("name", "denoise"), CASES)
def test_a_sky_is_the_sky(name: str, denoise: float | None) -> None:
    found = enlarged_sky(name, denoise)
    border = 8 * found.scale
    assert found.error[border:-border, border:-border].max() <= 1.5
    assert found.error.max() <= 2.5
