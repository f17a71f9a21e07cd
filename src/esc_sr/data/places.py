"""Where crops are taken: anywhere, or where some places drawn at random show the most detail."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def draw_crop(
    size: tuple[int, int],
    side: int,
    generator: np.random.Generator,
    places: int,
    crop: Callable[[int, int], NDArray[np.uint8]],
) -> tuple[int, int, NDArray[np.uint8]]:
    """Draw some places of a picture and take the crop with the most `detail` of them.

    Smooth crops teach little, so a step learns more without them, as with SamplingAug (Wang et al. 2021),
    whose measure is another.

    Args:
        size: height and width of the picture, not below `side`.
        side: of the crop, px.
        generator: source of all randomness.
        places: how many are drawn; with 1 it does not matter what is there.
        crop: what is at a top and left, (H, W, C).

    Returns:
        Top, left, and what is there.
    """
    drawn = []
    for _ in range(places):
        top, left = (int(generator.integers(length - side + 1)) for length in size)
        drawn.append((top, left, crop(top, left)))
    return drawn[0] if places == 1 else max(drawn, key=lambda found: detail(found[2]))


def detail(pixels: NDArray[np.uint8]) -> float:
    """Variance within 2x2 blocks of pixels (H, W, C), in steps of 8 bits, squared; 0 without such a block."""
    height, width = (side // 2 for side in pixels.shape[:2])
    if not height * width:
        return 0.0
    blocks = pixels[: 2 * height, : 2 * width].astype(np.float32).reshape(height, 2, width, 2, -1)
    return float(blocks.var((1, 3)).mean())
