"""Flat and smooth pictures, drawn: skies and walls, of which photographs of training show little."""

import numpy as np
from numpy.typing import NDArray


def draw_smooth(
    generator: np.random.Generator, patch: int, side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw one colour, or a gradient between two, in both sizes.

    Args:
        generator: source of all randomness.
        patch: side of LR, px.
        side: of HR, px.

    Returns:
        lr (3, patch, patch), in whole levels of 255, and hr (3, side, side), 0..1. HR is the
        gradient itself, or where LR has one level only, that level.
    """
    start = generator.random(3)
    if generator.random() < 0.5:  # saturated: some channels are empty or full
        start = np.where(generator.random(3) < 0.6, generator.integers(0, 2, 3), start)
    span = generator.uniform(-0.3, 0.3, 3) * generator.integers(0, 2)
    angle, phase = generator.uniform(0, 2 * np.pi, 2)
    waves = generator.uniform(0, 1.5) * np.pi / patch

    def colours(count: int) -> NDArray[np.float64]:
        """What is seen with so many pixels along a side, (3, count, count)."""
        centres = (np.arange(count) + 0.5) * patch / count
        along = centres[:, None] * np.sin(angle) + centres * np.cos(angle)  # (count, count), LR pixels
        bend = np.sin(waves * along + phase)
        return np.clip(start[:, None, None] + span[:, None, None] * bend, 0, 1)

    lr, hr = np.rint(colours(patch) * 255) / 255, colours(side)
    if np.ptp(lr, (1, 2)).max() == 0:
        hr = np.broadcast_to(lr[:, :1, :1], hr.shape)
    return lr.astype(np.float32), np.ascontiguousarray(hr, np.float32)
