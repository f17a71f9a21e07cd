"""Render examples/harbour.png, a picture with edges, rigging, bricks and ripples that the project may ship.

Everything is drawn with numpy at four times the size and reduced with the package's own bicubic.
"""

import sys
from pathlib import Path

import numpy as np

from esc_sr.bicubic import resize
from esc_sr.image import Picture, write_image

WIDTH, HEIGHT, FINE = 480, 320, 4
HORIZON = 190.0
Y, X = (np.mgrid[0 : HEIGHT * FINE, 0 : WIDTH * FINE].astype(np.float32) + 0.5) / FINE
RNG = np.random.default_rng(7)


def colour(text: str) -> np.ndarray:
    return np.array([int(text[i : i + 2], 16) for i in (0, 2, 4)], np.float32) / 255


def sky() -> np.ndarray:
    stops = [(0.0, "24325e"), (80.0, "6b5b95"), (140.0, "e58e73"), (HORIZON, "ffd9a0"), (400.0, "ffd9a0")]
    rows = [np.interp(Y[:, 0], [s[0] for s in stops], [colour(s[1])[c] for s in stops]) for c in range(3)]
    picture = np.repeat(np.stack(rows, -1)[:, None], X.shape[1], 1).astype(np.float32)
    glow = np.exp(-np.hypot(X - 330, Y - 160) / 60)[..., None]
    picture += glow * colour("ffcf7a") * 0.55
    for i in range(9):  # streaks of cloud
        y, phase = 30 + 14 * i, RNG.uniform(0, 6)
        wave = np.sin(X / 37 + phase) + np.sin(X / 11 + 2 * phase) * 0.4
        streak = np.exp(-(((Y - y - 3 * wave) / (1.5 + 0.25 * i)) ** 2)) * np.clip(wave, 0, 1)
        picture += (streak * 0.16)[..., None] * colour("ffb08a")
    paint(picture, np.hypot(X - 330, Y - 160) < 15, "fff3cf")
    return picture


def paint(picture: np.ndarray, mask: np.ndarray, fill: str | np.ndarray) -> None:
    picture[mask] = colour(fill) if isinstance(fill, str) else fill[mask]


def polygon(points: list[tuple[float, float]]) -> np.ndarray:
    """Inside of a convex polygon, corners given clockwise on the screen."""
    mask = np.ones_like(X, bool)
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        mask &= (x1 - x0) * (Y - y0) - (y1 - y0) * (X - x0) >= 0
    return mask


def box(x: float, y: float, width: float, height: float) -> np.ndarray:
    return (x <= X) & (x + width > X) & (y <= Y) & (y + height > Y)


def line(x0: float, y0: float, x1: float, y1: float, thickness: float) -> np.ndarray:
    along = ((X - x0) * (x1 - x0) + (Y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
    along = along.clip(0, 1)
    return np.hypot(X - x0 - along * (x1 - x0), Y - y0 - along * (y1 - y0)) < thickness / 2


def hills(picture: np.ndarray) -> None:
    for base, size, tone in ((168, 15, "8d6a86"), (178, 9, "5d4a6e")):
        ridge = base + size * np.sin(X / 53 + base) * np.sin(X / 17.3 + 1) + 1.2 * np.sin(X / 2.1)
        paint(picture, (ridge < Y) & (Y < HORIZON), tone)


def lighthouse(picture: np.ndarray, x: float) -> None:
    paint(picture, polygon([(x - 34, HORIZON), (x - 20, 180), (x + 22, 179), (x + 40, HORIZON)]), "3b3140")
    tower = polygon([(x - 7, 92), (x + 7, 92), (x + 11, 182), (x - 11, 182)])
    paint(picture, tower, "f4ece0")
    paint(picture, tower & ((Y - 92) // 13 % 2 == 1), "b8342f")
    shade = tower & (x + 2 + (Y - 92) / 40 < X)
    picture[shade] *= 0.72
    paint(picture, box(x - 11, 88, 22, 4), "2a2530")
    paint(picture, box(x - 6, 76, 12, 12), "ffe9a8")
    for bar in range(5):
        paint(picture, box(x - 6.4 + 3 * bar, 76, 0.8, 12), "2a2530")
    for rail in range(12):
        paint(picture, box(x - 11 + 2 * rail, 83, 0.6, 5), "2a2530")
    paint(picture, polygon([(x, 65), (x + 8, 76), (x - 8, 76)]), "8e2a27")
    paint(picture, line(x, 58, x, 66, 0.8), "2a2530")


def boat(picture: np.ndarray, x: float, y: float, size: float, hull: str) -> None:
    def at(dx: float, dy: float) -> tuple[float, float]:
        return x + dx * size, y + dy * size

    paint(picture, polygon([at(-30, -8), at(34, -10), at(24, 3), at(-24, 3)]), hull)
    paint(picture, polygon([at(-30, -8), at(34, -10), at(33.4, -7.4), at(-29.4, -5.4)]), "f6efe2")
    paint(picture, polygon([at(-12, -14), at(8, -14), at(10, -8.6), at(-14, -8.4)]), "e8d8bd")
    for port in (-9, -3, 3):
        paint(picture, np.hypot(X - x - port * size, Y - y + 11.3 * size) < 1.3 * size, "2b3350")
    paint(picture, polygon([at(2.2, -74), at(30, -18), at(2.2, -18)]), "fbf4e6")
    for seam in range(6):
        paint(picture, line(*at(2.2, -66 + 8 * seam), *at(4.5 + 4 * seam, -64 + 8 * seam), 0.5), "c9bfae")
    paint(picture, polygon([at(-1.6, -66), at(-1.6, -18), at(-24, -16)]), "d9694f")
    paint(picture, line(*at(0, -80), *at(0, -8), 1.5 * size), "4a3328")
    for end in ((-29, -9), (33, -11), (-20, -8), (22, -9)):
        paint(picture, line(*at(0, -78), *at(*end), 0.45), "30242a")
    for rung in range(9):
        paint(picture, line(*at(-1.5 - 1.8 * rung, -70 + 7 * rung), *at(0, -70 + 7 * rung), 0.35), "30242a")


def quay(picture: np.ndarray) -> None:
    walls = (("a9543f", 0, 112, 52), ("c9a35f", 52, 124, 44), ("6f7f8f", 96, 106, 48))
    for tone, left, top, width in walls:
        house = box(left, top, width, 96)
        course = (Y - top) // 3.2
        mortar = ((Y - top) % 3.2 < 0.55) | ((X - left + 3.5 * (course % 2)) % 7 < 0.55)
        paint(picture, house, tone)
        picture[house & mortar] *= 0.74
        peak = (left + width / 2, top - 22.0)
        paint(picture, polygon([peak, (left + width + 3, top), (left - 3, top)]), "4b2f33")
        tiles = polygon([peak, (left + width + 3, top), (left - 3, top)]) & (np.sin(Y * 2.1) > 0.55)
        picture[tiles] *= 1.35
        for row in range(3):
            for column in range(3):
                x, y = left + 6 + column * (width - 20) / 2, top + 10 + 25 * row
                paint(picture, box(x - 1, y - 1, 10, 16), "efe6d8")
                paint(picture, box(x, y, 8, 14), "ffdf8e" if (row + column + left) % 3 else "35415f")
                paint(picture, box(x + 3.6, y, 0.8, 14) | box(x, y + 6, 8, 0.8), "efe6d8")
    wall = box(0, 200, 150, 26)
    paint(picture, wall, "57505a")
    picture[wall & (((Y - 200) % 6.5 < 0.7) | ((X + 7 * ((Y - 200) // 6.5 % 2)) % 14 < 0.7))] *= 0.6
    for post in range(10):
        paint(picture, box(6 + 15 * post, 191, 1.6, 9), "1f1c26")
    paint(picture, box(0, 191, 150, 0.9) | box(0, 195, 150, 0.6), "1f1c26")


def water(picture: np.ndarray) -> None:
    depth = (Y - HORIZON).clip(0)
    ripple = np.sin(Y * 9 / (1 + depth / 14) + 2.2 * np.sin(X / 13 + depth / 5)) * (0.4 + depth / 26)
    columns = ((X + 2.2 * ripple) * FINE).clip(0, X.shape[1] - 1).astype(int)
    rows = ((HORIZON - depth * 1.15 + ripple) * FINE).clip(0, HORIZON * FINE - 1).astype(int)
    mirrored = picture[rows, columns] * 0.72 + colour("1d3557") * 0.2
    sparkle = (ripple > 0.35 + depth / 40) & (np.abs(X - 330) < 8 + depth * 0.5)
    mirrored[sparkle] = mirrored[sparkle] * 0.5 + colour("ffe2a6") * 0.5
    paint(picture, Y >= HORIZON, mirrored)


def render() -> np.ndarray:
    picture = sky()
    hills(picture)
    lighthouse(picture, 430)
    boat(picture, 222, 188, 0.42, "3f5b73")
    water(picture)
    quay(picture)
    boat(picture, 268, 268, 1.25, "27425f")
    fine = (picture.clip(0, 1) * 255).round().astype(np.uint8)
    return resize(fine, (HEIGHT, WIDTH))


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "examples/harbour.png")
    write_image(Picture(render()), target, overwrite=True)
