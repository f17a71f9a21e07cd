"""Blur kernels: what every one has in common, and what tells the kinds apart."""

import math

import pytest
import torch
from torch import Tensor

from esc_sr.data.kernels import (
    KINDS,
    Blur,
    draw_kernels,
    draw_sinc,
    draw_sizes,
    filter_each,
    shaped_kernels,
    sinc_kernels,
)
from esc_sr.errors import UsageError

STEPS = torch.arange(21.0) - 10


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of_kind(kind: str) -> Blur:
    first, *rest = (float(kind == other) for other in KINDS)
    return Blur(kinds=(first, rest[0], rest[1], rest[2], rest[3], rest[4]), sinc=0)


def shaped(
    sigma: tuple[float, float], angle: float = 0.0, exponent: float = 1.0, plateau: bool = False
) -> Tensor:
    return shaped_kernels(
        torch.tensor([sigma]),
        torch.tensor([angle]),
        torch.tensor([exponent]),
        torch.tensor([plateau]),
        torch.tensor([21]),
        21,
    )[0]


@pytest.mark.parametrize("blur", [*map(of_kind, KINDS), Blur(sinc=1), Blur(sigma=(0.2, 1.5))])
def test_every_kernel_keeps_brightness_and_place(blur: Blur) -> None:
    kernels = draw_kernels(64, blur, seeded())
    assert kernels.shape == (64, 21, 21)
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(64))
    torch.testing.assert_close(kernels, kernels.flip(1, 2))


def test_kernels_have_all_sizes_and_are_zero_outside_their_own() -> None:
    wide = Blur(sigma=(40.0, 40.0), sinc=0)
    kernels = draw_kernels(200, wide, seeded())
    sizes = (kernels[:, 10] != 0).sum(1)
    assert set(sizes.tolist()) == {7, 9, 11, 13, 15, 17, 19, 21}
    assert torch.equal(sizes, (kernels[:, :, 10] != 0).sum(1))
    assert set(draw_sizes(50, (3, 5), seeded()).tolist()) == {3, 5}


@pytest.mark.parametrize("kind", KINDS)
def test_only_anisotropic_kernels_change_under_a_quarter_turn(kind: str) -> None:
    kernels = draw_kernels(32, of_kind(kind), seeded())
    turned = (kernels - kernels.rot90(1, (1, 2))).abs().amax((1, 2))
    assert (turned < 1e-6).all() if kind.endswith(" iso") or kind == "iso" else (turned > 1e-4).sum() > 24


def test_a_gaussian_has_its_standard_deviations_along_its_axes() -> None:
    kernel = shaped((2.0, 1.0), angle=math.pi / 6)
    xx = (kernel * STEPS**2).sum()
    yy = (kernel * STEPS[:, None] ** 2).sum()
    xy = (kernel * STEPS[:, None] * STEPS).sum()
    cosine, sine = math.cos(math.pi / 6), math.sin(math.pi / 6)
    expected = [4 * cosine**2 + sine**2, 4 * sine**2 + cosine**2, 3 * sine * cosine]
    torch.testing.assert_close(torch.stack((xx, yy, xy)), torch.tensor(expected), rtol=1e-3, atol=1e-3)


def test_exponent_and_plateau_shape_the_fall_from_the_middle() -> None:
    generalized = shaped((1.5, 1.5), exponent=2.0)
    assert (generalized[10, 12] / generalized[10, 10]).item() == pytest.approx(
        math.exp(-((4 / 2.25) ** 2) / 2), rel=1e-4
    )
    plateau = shaped((1.5, 1.5), exponent=2.0, plateau=True)
    assert (plateau[10, 12] / plateau[10, 10]).item() == pytest.approx(1 / (1 + (4 / 2.25) ** 2), rel=1e-4)


@pytest.mark.parametrize("cutoff", [math.pi / 4, math.pi / 2])
def test_sinc_passes_low_frequencies_and_stops_high_ones(cutoff: float) -> None:
    kernel = sinc_kernels(torch.tensor([cutoff]), torch.tensor([21]), 21)[0]

    def response(frequency: float) -> float:
        return (kernel * (frequency * STEPS).cos()).sum().item()

    assert response(0.6 * cutoff) == pytest.approx(1, abs=0.15)
    assert response(1.5 * cutoff) == pytest.approx(0, abs=0.15)
    assert kernel.min() < 0  # it rings


def test_sinc_is_drawn_with_its_probability_and_nothing_else() -> None:
    kernels = draw_sinc(400, 0.8, (7, 21), seeded())
    identity = kernels[:, 10, 10] == 1
    assert 0.13 < identity.float().mean().item() < 0.27
    assert torch.equal(kernels[identity].abs().sum((1, 2)), torch.ones(int(identity.sum())))
    rings = (draw_kernels(400, Blur(sinc=0.1), seeded()) < 0).any(2).any(1)
    assert 0.05 < rings.float().mean().item() < 0.16


def test_every_picture_is_filtered_by_its_own_kernel() -> None:
    x = torch.rand(2, 3, 4, 5, generator=seeded())
    kernels = torch.zeros(2, 3, 3)
    kernels[0, 1, 1] = 1
    kernels[1, 1, 2] = 1  # takes the pixel on the right
    y = filter_each(x, kernels)
    torch.testing.assert_close(y[0], x[0])
    torch.testing.assert_close(y[1, :, :, :-1], x[1, :, :, 1:])
    torch.testing.assert_close(y[1, :, :, -1], x[1, :, :, -2])  # reflected about the last pixel
    tiny = filter_each(torch.full((1, 3, 1, 2), 0.3), draw_kernels(1, Blur(), seeded()))
    torch.testing.assert_close(tiny, torch.full((1, 3, 1, 2), 0.3))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kinds": (1.0, 0.0, 0.0, 0.0, 0.0, 0.1)}, "6 probabilities"),
        ({"kinds": (1.1, -0.1, 0.0, 0.0, 0.0, 0.0)}, "6 probabilities"),
        ({"sinc": 1.5}, "from 0 to 1"),
        ({"sigma": (0.0, 1.0)}, "rising order"),
        ({"generalized": (1.5, 2.0)}, "at most 1"),
        ({"plateau": (0.5, 0.9)}, "at least 1"),
        ({"sizes": (7, 20)}, "odd"),
    ],
)
def test_values_that_make_no_kernel_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Blur(**settings)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{next(iter(settings))}=")
