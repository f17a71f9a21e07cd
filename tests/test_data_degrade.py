"""The real-world degradation: each stage alone, all together, and where its randomness comes from."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from esc_sr.bicubic import resize
from esc_sr.data.degrade import Degradation, Order, add_gaussian, add_poisson, degrade, draw_factor, sharpen
from esc_sr.data.kernels import Blur
from esc_sr.errors import UsageError

NOTHING = Order(
    blur_prob=0.0, resize=(0.0, 0.0, 1.0), gaussian=1.0, gaussian_sigma=(0.0, 0.0), jpeg_quality=None
)
NONE = Degradation(scale=1, sharpen=False, first=NOTHING, second=NOTHING, final_sinc=0.0)
BLUR = replace(NOTHING, blur_prob=1.0, blur=Blur(sigma=(1.0, 3.0)))
RESIZE = replace(NOTHING, resize=(0.5, 0.5, 0.0))
GAUSSIAN = replace(NOTHING, gaussian_sigma=(5.0, 10.0))
POISSON = replace(NOTHING, gaussian=0.0, poisson_scale=(0.5, 1.0))
JPEG = replace(NOTHING, jpeg_quality=(30.0, 40.0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 2, height: int = 24, width: int = 32) -> Tensor:
    x = torch.rand(count, 3, height // 4, width // 4, generator=seeded())
    x = torch.nn.functional.interpolate(x, (height, width), mode="bicubic").clamp(0, 1)
    return (x * 255).round() / 255


def test_published_values() -> None:
    settings = Degradation()
    assert settings.first.blur.kinds == settings.second.blur.kinds == (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    assert (settings.first.blur.sigma, settings.second.blur.sigma) == ((0.2, 3.0), (0.2, 1.5))
    assert (settings.first.resize, settings.second.resize) == ((0.2, 0.7, 0.1), (0.3, 0.4, 0.3))
    assert (settings.first.resize_range, settings.second.resize_range) == ((0.15, 1.5), (0.3, 1.2))
    assert (settings.first.gaussian_sigma, settings.second.gaussian_sigma) == ((1, 30), (1, 25))
    assert (settings.first.poisson_scale, settings.second.poisson_scale) == ((0.05, 3), (0.05, 2.5))
    assert (settings.first.blur_prob, settings.second.blur_prob, settings.final_sinc) == (1, 0.8, 0.8)
    assert settings.clean == 0


def test_nothing_switched_on_changes_nothing() -> None:
    x = pictures()
    torch.testing.assert_close(degrade(x, NONE, seeded()), x, rtol=0, atol=0)


@pytest.mark.parametrize(
    "settings",
    [
        replace(NONE, sharpen=True),
        *(replace(NONE, first=order) for order in (BLUR, RESIZE, GAUSSIAN, POISSON, JPEG)),
        *(replace(NONE, second=order) for order in (BLUR, RESIZE, GAUSSIAN, POISSON, JPEG)),
        replace(NONE, final_sinc=1.0),
    ],
)
def test_each_stage_alone_changes_every_picture(settings: Degradation) -> None:
    x = pictures()
    change = (degrade(x, settings, seeded()) - x).abs().amax((1, 2, 3))
    assert change.min() > 2 / 255


@pytest.mark.parametrize("level", [0, 100, 255])
@pytest.mark.parametrize("seed", range(3))
def test_flat_grey_is_kept_by_all_but_noise_and_quantisation(level: int, seed: int) -> None:
    quiet = Degradation(
        first=replace(BLUR, resize=(0.2, 0.7, 0.1)), second=replace(BLUR, resize=(0.3, 0.4, 0.3))
    )
    x = torch.full((2, 3, 20, 28), level / 255)
    torch.testing.assert_close(degrade(x, quiet, seeded(seed)), x[:, :, :5, :7], rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1, 3, 4])
def test_result_has_the_size_range_and_type_of_lr(scale: int) -> None:
    x = pictures(3, 12, 24).to(torch.float16)
    for seed in range(8):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = degrade(x, Degradation(scale=scale), seeded(seed))
        assert y.shape == (3, 3, 12 // scale, 24 // scale)
        assert y.dtype == torch.float32
        assert 0 <= y.min() and y.max() <= 1
        torch.testing.assert_close((y * 255).round() / 255, y, rtol=0, atol=0)
        assert y.std() > 0


def test_the_generator_decides_the_result_and_can_be_resumed() -> None:
    x, generator = pictures(), seeded()
    first = degrade(x, Degradation(), generator)
    state = generator.get_state()
    torch.manual_seed(99)  # the global one plays no part
    second = degrade(x, Degradation(), generator)
    assert not torch.equal(first, second)
    torch.testing.assert_close(degrade(x, Degradation(), seeded()), first, rtol=0, atol=0)
    generator.set_state(state)
    torch.testing.assert_close(degrade(x, Degradation(), generator), second, rtol=0, atol=0)


def test_pictures_of_a_batch_are_degraded_differently() -> None:
    x = torch.full((2, 3, 64, 64), 0.5)
    noisy = replace(NOTHING, gaussian_sigma=(1.0, 30.0))
    low, high = sorted(degrade(x, replace(NONE, first=noisy), seeded()).std((1, 2, 3)).tolist())
    assert high > 1.2 * low
    one = pictures(1).expand(2, -1, -1, -1)
    first, second = degrade(one, replace(NONE, first=BLUR), seeded())
    assert not torch.equal(first, second)


def test_clean_pictures_are_reduced_by_bicubic_only_and_the_others_stay_as_they_were() -> None:
    x = pictures(24, 16, 16)
    reduced = resize(sharpen(x), (4, 4)).clamp(0, 1)
    published = degrade(x, Degradation(), seeded())
    mixed = degrade(x, Degradation(clean=0.5), seeded())
    is_clean = (mixed - reduced).abs().amax((1, 2, 3)) < 0.51 / 255
    assert 6 <= is_clean.sum() <= 18
    torch.testing.assert_close(mixed[~is_clean], published[~is_clean], rtol=0, atol=0)
    torch.testing.assert_close(degrade(x, Degradation(clean=1), seeded()), reduced, rtol=0, atol=0.51 / 255)


def test_gaussian_noise_has_its_deviation_and_colour() -> None:
    x = torch.full((2, 3, 64, 64), 0.5)
    noise = add_gaussian(x, torch.tensor([5.0, 20.0]), torch.tensor([False, True]), seeded()) - x
    torch.testing.assert_close(noise.std((1, 2, 3)) * 255, torch.tensor([5.0, 20.0]), rtol=0.04, atol=0)
    assert noise.mean().abs() < 1 / 255
    assert not torch.equal(noise[0, 0], noise[0, 1])
    torch.testing.assert_close(noise[1, :1].expand(3, -1, -1), noise[1])
    assert add_gaussian(x, torch.tensor([500.0, 500.0]), torch.tensor([False, True]), seeded()).max() == 1


def test_poisson_noise_has_a_variance_that_grows_with_brightness() -> None:
    x = torch.full((2, 3, 64, 128), 51 / 255)
    x[..., 64:] = 204 / 255  # two values: levels = 2
    scale = torch.tensor([0.04, 0.08])  # seldom clipped
    noise = add_poisson(x, scale, torch.tensor([False, True]), seeded()) - x
    for half, brightness in ((noise[..., :64], 0.2), (noise[..., 64:], 0.8)):
        expected = brightness * scale**2 / 2
        torch.testing.assert_close(half.var((1, 2, 3)), expected, rtol=0.1, atol=0)
    assert noise.mean().abs() < 2 / 255
    torch.testing.assert_close(noise[1, :1].expand(3, -1, -1), noise[1])
    assert not torch.equal(noise[0, 0], noise[0, 1])


def test_factors_have_their_range_and_their_share() -> None:
    generator = seeded()
    factors = torch.tensor([draw_factor(Order(), generator) for _ in range(1000)])
    shares = torch.stack([factors > 1, factors < 1, factors == 1]).float().mean(1)
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.7, 0.1]), rtol=0, atol=0.05)
    assert 0.15 <= factors.min() < 0.17 and 1.45 < factors.max() <= 1.5
    assert factors[factors < 1].mean().item() == pytest.approx(0.575, abs=0.03)


def test_the_size_between_the_passes_decides_how_much_detail_is_left() -> None:
    x = pictures(1, 48, 48)
    reduce = replace(NOTHING, resize=(0.0, 1.0, 0.0), resize_range=(0.15, 1.0))
    detail = [
        degrade(x, replace(NONE, first=reduce), seeded(seed)).diff(dim=3).abs().mean().item()
        for seed in range(12)
    ]
    assert max(detail) > 1.3 * min(detail)


def test_sharpening_lifts_edges_and_leaves_faint_detail_and_flat_parts() -> None:
    x = torch.full((1, 1, 80, 80), 0.4)
    x[..., 40:] = 0.6
    y = sharpen(x)
    assert y[0, 0, 40, 40] > 0.62 and y[0, 0, 40, 39] < 0.38
    torch.testing.assert_close(y.mT, sharpen(x.mT), rtol=0, atol=1e-6)
    faint = 0.5 + 8 / 255 * (torch.rand(1, 1, 60, 60, generator=seeded()) - 0.5)
    torch.testing.assert_close(sharpen(faint), faint, rtol=0, atol=0)
    torch.testing.assert_close(sharpen(x, weight=0), x)
    assert sharpen(pictures(1, 4, 8)).shape == (1, 3, 4, 8)  # smaller than the Gaussian


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"blur_prob": -0.1}, "from 0 to 1"),
        ({"resize": (0.5, 0.5, 0.5)}, "sum to 1"),
        ({"resize_range": (0.0, 1.5)}, "above 0"),
        ({"gaussian": 2.0}, "from 0 to 1"),
        ({"gaussian_sigma": (3.0, 1.0)}, "rising order"),
        ({"poisson_scale": (-1.0, 1.0)}, "rising order"),
        ({"grey": 1.1}, "from 0 to 1"),
        ({"jpeg_quality": (0.0, 95.0)}, "1 to 100"),
    ],
)
def test_an_order_that_cannot_work_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Order(**settings)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{next(iter(settings))}=")


def test_a_degradation_that_cannot_work_is_refused() -> None:
    with pytest.raises(UsageError, match="scale=0: must be at least 1"):
        Degradation(scale=0)
    with pytest.raises(UsageError, match="final_sinc=2: must be from 0 to 1"):
        Degradation(final_sinc=2)
    with pytest.raises(UsageError, match="final_sizes=.*: must be two odd"):
        Degradation(final_sizes=(8, 21))
    with pytest.raises(UsageError, match="clean=-0.1: must be from 0 to 1"):
        Degradation(clean=-0.1)
    for shape in ((1, 3, 16, 18), (1, 1, 16, 16), (3, 16, 16)):
        with pytest.raises(UsageError, match="multiples of 4"):
            degrade(torch.zeros(shape), Degradation(), seeded())
