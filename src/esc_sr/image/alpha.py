"""Transparency, before and after a network: colours that nobody sees, and alpha that has nothing to gain."""

import numpy as np


def fill_transparent(pixels: np.ndarray) -> np.ndarray:
    """Replace the colours of wholly transparent pixels by those of the visible ones nearby.

    A network, or any filter, mixes neighbours: at the edge of a shape it would mix in the black that most
    files hold where nothing shows. Here each transparent pixel takes the mean of the visible ones in the
    smallest block of 2, 4, 8, ... pixels a side that holds one. Visible colours stay as they are, and where
    all of them are equal, so is the whole result.

    Args:
        pixels: (H, W, 2 or 4), alpha last, of any type a `Picture` has.

    Returns:
        (H, W, 1 or 3) of the same type; all colours stay where nothing is visible.
    """
    colours, hidden = pixels[:, :, :-1], pixels[:, :, -1] <= 0
    if hidden.all() or not hidden.any():
        return colours
    sums, counts = _blocks(np.where(hidden[..., None], 0, colours)), _blocks(~hidden[..., None])
    fill = _filled(sums, counts).repeat(2, axis=0).repeat(2, axis=1)[: pixels.shape[0], : pixels.shape[1]]
    fill = fill if pixels.dtype == np.float32 else np.rint(fill)
    return np.where(hidden[..., None], fill.astype(pixels.dtype), colours)


def _filled(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Means (H, W, C) of visible pixels, from their sums and counts; empty places from coarser blocks."""
    means = sums / np.maximum(counts, 1)
    if counts.all():
        return means
    coarse = _filled(_blocks(sums), _blocks(counts)).repeat(2, axis=0).repeat(2, axis=1)
    return np.where(counts > 0, means, coarse[: len(means), : means.shape[1]])


def _blocks(values: np.ndarray) -> np.ndarray:
    """Sums over blocks of 2 x 2, (H, W, C) to (ceil(H / 2), ceil(W / 2), C) float64."""
    height, width, _ = values.shape
    rows = np.add.reduceat(values, range(0, height, 2), axis=0, dtype=np.float64)
    return np.add.reduceat(rows, range(0, width, 2), axis=1)


def keep_flat(alpha: np.ndarray, enlarged: np.ndarray) -> np.ndarray:
    """Put alpha back where there was nothing to enlarge: pixels whose eight neighbours are equal to them.

    There a network is off by a level now and then, which would leave specks on a transparent ground.

    Args:
        alpha: (H, W, 1), before.
        enlarged: After, of any larger size.

    Returns:
        As `enlarged`.
    """
    height, width, _ = alpha.shape
    rows, columns = (
        (2 * np.arange(after) + 1) * before // (2 * after)  # the pixel that the middle of each one lies in
        for before, after in zip((height, width), enlarged.shape, strict=False)
    )
    around = np.pad(alpha, ((1, 1), (1, 1), (0, 0)), mode="edge")
    flat = np.ones(alpha.shape, bool)
    for top in range(3):
        for left in range(3):
            flat &= around[top : top + height, left : left + width] == alpha
    flat, alpha = (each[rows][:, columns] for each in (flat, alpha))
    return np.where(flat, alpha, enlarged)
