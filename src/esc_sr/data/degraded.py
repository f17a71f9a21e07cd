"""LR/HR pairs of the real-world recipes: crops, degraded in batches and mixed over time (Supp. 6.3)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esc_sr.data.degrade import Degradation, degrade, leave_clean, sharpen
from esc_sr.data.kernels import uniform
from esc_sr.data.pairs import Pair, turn
from esc_sr.data.pictures import Decoded, Source
from esc_sr.data.places import draw_crop
from esc_sr.data.pool import PairPool, crop_pairs
from esc_sr.data.smooth import draw_smooth


def cut_hr(picture: Source, generator: np.random.Generator, *, side: int, places: int = 1) -> tuple[Tensor]:
    """Take a crop of a picture, (side, side, 3) uint8, as of `draw_crop`, every other one mirrored."""
    *_, pixels = draw_crop(
        picture.size, side, generator, places, lambda top, left: picture.crop(top, left, side, side)
    )
    hr = turn(pixels, 4 * int(generator.integers(2)))
    return (torch.from_numpy(np.ascontiguousarray(hr)),)


def degrade_batches(
    crops: Iterable[tuple[Tensor, ...]],
    settings: Degradation,
    *,
    patch: int,
    pool: PairPool,
    device: torch.device,
    seed: int,
    start: int = 0,
    rank: int = 0,
    draws: int = 1,
    redraw: int = 1,
    flat: float = 0.0,
    others: Sequence[tuple[float, Degradation]] = (),
    teach: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Degrade batches of HR crops where training is done, and mix them with earlier ones.

    Args:
        crops: batches of `cut_hr`.
        settings: what to draw degradations from.
        patch: side of the LR crop that is cut out of each, px.
        pool: mixes the crops of several batches; changed by every batch. It and the other arguments decide
            what follows.
        device: where to degrade.
        seed: with step and rank, the source of all randomness.
        start: the step of the first batch.
        rank: of this process.
        draws: parts of a batch; what `degrade` draws once, and the place of the crop, each part has anew.
        redraw: steps from one degraded batch to the next; in between, pairs are drawn from the pool, once it
            is full.
        flat: probability that a crop is drawn by `draw_smooth` instead.
        others: what a part of a batch is degraded by instead, each with its probability. Of one of scale 1,
            LR is cut out of the picture as it is, and only `teach` knows what it should become.
        teach: gives the target for degraded LR and sharpened HR, both (batch, 3, height, width). LR that is
            left clean keeps sharpened HR.

    Yields:
        lr (batch, 3, patch, patch) and hr (batch, 3, scale*patch, scale*patch), float32, 0..1; hr is not
        sharpened, or it is what `teach` gave.
    """
    for step, (pixels,) in enumerate(crops, start):
        (mixed,) = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)
        generator = torch.Generator(device).manual_seed(int(mixed))
        if pool.is_full and step % redraw:
            lr, hr = pool.draw(len(pixels), generator)
        else:
            parts = (
                crop_pairs(
                    *_degraded(
                        to_network(part, device),
                        _drawn(settings, others, generator),
                        settings.scale,
                        teach,
                        generator,
                    ),
                    patch,
                    generator,
                )
                for part in pixels.chunk(draws)
            )
            lr, hr = map(torch.cat, zip(*parts, strict=True))
            lr, hr = pool.exchange(lr, hr, generator)
        yield _flatten_some(lr, hr, flat, np.random.default_rng((seed, step, rank))) if flat else (lr, hr)


def _drawn(
    settings: Degradation, others: Sequence[tuple[float, Degradation]], generator: torch.Generator
) -> Degradation:
    """What a part is degraded by; nothing is drawn where there are no others."""
    left = float(uniform(0, 1, 1, generator)) if others else 1.0
    for share, other in others:
        if left < share:
            return other
        left -= share
    return settings


def _degraded(
    hr: Tensor,
    settings: Degradation,
    scale: int,
    teach: Callable[[Tensor, Tensor], Tensor] | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """LR, and what it should become: HR, or what a teacher makes of LR."""
    if settings.scale == 1:
        part, _ = crop_pairs(hr, hr, hr.shape[2] // scale, generator)
        lr = degrade(part, settings, generator)
        return lr, teach(lr, hr) if teach else hr
    if teach is None:
        return degrade(hr, settings, generator), hr
    wanted = sharpen(hr) if settings.sharpen else hr
    lr = degrade(wanted, replace(settings, sharpen=False, clean=0.0), generator)
    lr, is_clean = leave_clean(lr, wanted, settings.clean, generator)
    return lr, torch.where(is_clean, wanted, teach(lr, wanted))


def _flatten_some(
    lr: Tensor, hr: Tensor, share: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A batch, some pairs of which are replaced by smooth ones."""
    lr, hr = lr.clone(), hr.clone()
    for place in np.flatnonzero(generator.random(len(lr)) < share):
        low, high = draw_smooth(generator, lr.shape[2], hr.shape[2])
        lr[place], hr[place] = torch.from_numpy(low), torch.from_numpy(high)
    return lr, hr


def degraded_pairs(pictures: Iterable[Decoded], settings: Degradation) -> Iterator[Pair]:
    """Degrade whole pictures, cropped to a multiple of the scale, to validate on: the same every time."""
    for number, picture in enumerate(pictures):
        height, width = (side - side % settings.scale for side in picture.pixels.shape[:2])
        hr = picture.pixels[:height, :width]
        generator = torch.Generator().manual_seed(number)
        lr = degrade(to_network(torch.from_numpy(hr[None]), torch.device("cpu")), settings, generator)
        yield Pair(picture.name, to_pixels(lr), hr)


def sharpened_hr(pair: Pair) -> Pair:
    """Replace HR by what the real-world losses compare with (Supp. 6.3)."""
    hr = sharpen(to_network(torch.from_numpy(pair.hr[None]), torch.device("cpu")))
    return pair._replace(hr=to_pixels(hr))


def to_network(pixels: Tensor, device: torch.device) -> Tensor:
    """(B, H, W, 3), 0..255 -> (B, 3, H, W) float32, 0..1."""
    return pixels.to(device).permute(0, 3, 1, 2).contiguous().float() / 255


def to_pixels(picture: Tensor) -> NDArray[np.uint8]:
    """(1, 3, H, W), 0..1 -> (H, W, 3) uint8."""
    return (picture[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
