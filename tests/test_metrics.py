"""PSNR, SSIM and luma against closed forms, scikit-image and the published bicubic scores."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from esc_sr.bicubic import resize
from esc_sr.data.sets import find_set
from esc_sr.errors import ImageError, UsageError
from esc_sr.evaluate import score
from esc_sr.image import Picture, write_image
from esc_sr.metrics import compare, luma, psnr, rgb_psnr, ssim


def test_luma_of_black_white_and_primaries() -> None:
    rgb = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)
    expected = torch.tensor([[16.0, 235.0, 16 + 65.481, 16 + 128.553, 16 + 24.966]], dtype=torch.float64)
    torch.testing.assert_close(luma(rgb), expected, rtol=0, atol=1e-9)


def test_luma_of_arrays_and_of_batched_tensors_is_that_of_scikit_image() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    expected = torch.from_numpy(rgb2ycbcr(rgb)[..., 0])
    planes = torch.from_numpy(rgb).movedim(-1, -3)
    for pixels in (rgb, planes, planes.float()):
        torch.testing.assert_close(luma(pixels), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("pixels", [np.zeros((3, 4, 5), np.uint8), torch.zeros(4, 5, 3)])
def test_luma_needs_three_channels_in_their_place(pixels: np.ndarray | torch.Tensor) -> None:
    with pytest.raises(UsageError, match=r"\(\.\.\., 3, H, W\)"):
        luma(pixels)


def test_rgb_psnr_pools_the_channels() -> None:
    a = torch.full((2, 3, 6, 8), 100.0)
    b = a + torch.tensor([[3.0, 0.0, 0.0], [1.0, -2.0, 2.5]]).view(2, 3, 1, 1)
    errors = torch.tensor([3.0, (1 + 4 + 6.25) / 3], dtype=torch.float64)
    torch.testing.assert_close(rgb_psnr(a, b), 10 * torch.log10(255**2 / errors), rtol=0, atol=1e-9)
    torch.testing.assert_close(rgb_psnr(a[:, :1], b[:, :1]), psnr(a[:, 0], b[:, 0]))


def test_psnr_equals_scikit_image_without_rounding() -> None:
    a, b = 255 * torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside = (slice(None), slice(4, -4), slice(4, -4))
    expected = peak_signal_noise_ratio(a[inside].numpy(), b[inside].numpy(), data_range=255)
    assert float(rgb_psnr(a, b, border=4)) == pytest.approx(expected, abs=1e-9)
    expected = peak_signal_noise_ratio(
        luma(a)[inside[1:]].numpy(), luma(b)[inside[1:]].numpy(), data_range=255
    )
    assert float(psnr(luma(a), luma(b), border=4)) == pytest.approx(expected, abs=1e-9)


def test_psnr_of_a_constant_difference() -> None:
    a = torch.full((2, 1, 20, 30), 100.0)
    b = a + torch.tensor([1.0, 5.0]).view(2, 1, 1, 1)
    expected = [[20 * math.log10(255)], [20 * math.log10(51)]]
    torch.testing.assert_close(psnr(a, b), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)
    assert math.isinf(float(psnr(a[0, 0], a[0, 0])))


def test_border_is_cut_off_before_comparing() -> None:
    a = torch.zeros(20, 24)
    b = a.clone()
    b[:2] = b[-2:] = b[:, :2] = b[:, -2:] = 200
    b[10, 10] = 255
    assert float(psnr(a, b, border=2)) == pytest.approx(10 * math.log10(16 * 20))
    assert float(ssim(a, b, border=2)) < 1
    b[10, 10] = 0
    assert float(ssim(a, b, border=2)) == pytest.approx(1)
    assert float(ssim(a, b, border=1)) < 1


@pytest.mark.parametrize("noise", [2.0, 25.0])
def test_ssim_equals_scikit_image_where_the_window_fits(noise: float) -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 255, (37, 52))
    b = np.clip(a + rng.normal(0, noise, a.shape), 0, 255)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    _, full = structural_similarity(a, b, full=True, **options)
    expected = full[5:-5, 5:-5].mean()
    assert float(ssim(torch.from_numpy(a), torch.from_numpy(b))) == pytest.approx(expected, abs=1e-9)


def test_batches_are_scored_one_by_one() -> None:
    a, b = 255 * torch.rand(2, 4, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    for metric in (psnr, ssim, rgb_psnr):
        singles = torch.stack([metric(x, y, 3) for x, y in zip(a, b, strict=True)])
        torch.testing.assert_close(metric(a, b, 3), singles, rtol=0, atol=1e-12)


def test_scores_have_the_gradients_that_differences_have() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = 255 * torch.rand(2, 3, 13, 14, generator=generator, dtype=torch.float64)
    a.requires_grad_()
    for metric in (rgb_psnr, lambda x, y: psnr(luma(x), luma(y)), lambda x, y: ssim(luma(x), luma(y))):
        assert torch.autograd.gradcheck(lambda x, metric=metric: metric(x, b), a)


def test_two_files_are_compared_as_8_bit_rgb(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    near = np.clip(rgb + rng.normal(0, 9, rgb.shape), 0, 255).astype(np.uint8)
    wide = np.dstack([rgb, rng.integers(0, 256, (20, 24), dtype=np.uint8)]).astype(np.uint16) * 257
    files: dict[str, np.ndarray] = {"near": near, "wide": wide, "grey": rgb[:, :, :1], "small": rgb[:10]}
    for name, pixels in files.items():
        write_image(Picture(pixels), tmp_path / f"{name}.png")
    found = compare(tmp_path / "near.png", tmp_path / "wide.png", border=2)
    assert found[:2] == pytest.approx(score(near, rgb, 2))
    expected = peak_signal_noise_ratio(near[2:-2, 2:-2], rgb[2:-2, 2:-2])
    assert found.rgb_psnr == pytest.approx(expected)
    grey = compare(tmp_path / "grey.png", tmp_path / "near.png")
    assert grey[:2] == pytest.approx(score(rgb[:, :, [0, 0, 0]], near, 0))
    with pytest.raises(UsageError, match="differ in shape"):
        compare(tmp_path / "near.png", tmp_path / "small.png")
    with pytest.raises(UsageError, match="11 x 11"):
        compare(tmp_path / "small.png", tmp_path / "small.png")
    with pytest.raises(ImageError, match=r"no\.png"):
        compare(tmp_path / "near.png", tmp_path / "no.png")


def test_impossible_comparisons_are_refused() -> None:
    image = torch.zeros(20, 20)
    with pytest.raises(UsageError, match="differ in shape"):
        psnr(image, torch.zeros(20, 21))
    with pytest.raises(UsageError, match="must be left"):
        psnr(image, image, border=10)
    with pytest.raises(UsageError, match="11 x 11"):
        ssim(image, image, border=5)


def test_bicubic_reaches_its_published_scores_on_set5() -> None:
    if "ESC_SR_DATA" not in os.environ:
        pytest.skip("ESC_SR_DATA does not name a folder with Set5")
    scores = []
    for pair in find_set(Path(os.environ["ESC_SR_DATA"]) / "Set5", 2).pairs():
        height, width = pair.hr.shape[:2]
        bicubic, hr = luma(resize(pair.lr, (height, width))), luma(pair.hr)
        scores.append((float(psnr(bicubic, hr, 2)), float(ssim(bicubic, hr, 2))))
    assert len(scores) == 5
    mean_psnr, mean_ssim = np.mean(scores, axis=0)
    assert mean_psnr == pytest.approx(33.66, abs=0.05)
    assert mean_ssim == pytest.approx(0.9299, abs=0.002)
