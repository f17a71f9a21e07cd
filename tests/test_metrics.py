"""PSNR, SSIM and luma against closed forms, scikit-image and the published bicubic scores."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from esc_sr.errors import UsageError
from esc_sr.evaluate import benchmark_pairs
from esc_sr.metrics import luma, psnr, ssim
from esc_sr.resize import resize


def test_luma_of_black_white_and_primaries() -> None:
    rgb = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)
    expected = torch.tensor([[16.0, 235.0, 16 + 65.481, 16 + 128.553, 16 + 24.966]], dtype=torch.float64)
    torch.testing.assert_close(luma(rgb), expected, rtol=0, atol=1e-9)


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
    a, b = 255 * torch.rand(2, 3, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    for score in (psnr, ssim):
        singles = torch.stack([score(x, y, 3) for x, y in zip(a, b, strict=True)])
        torch.testing.assert_close(score(a, b, 3), singles, rtol=0, atol=1e-12)


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
    for pair in benchmark_pairs(Path(os.environ["ESC_SR_DATA"]), "Set5", 2):
        height, width = pair.hr.shape[:2]
        bicubic, hr = luma(resize(pair.lr, (height, width))), luma(pair.hr)
        scores.append((float(psnr(bicubic, hr, 2)), float(ssim(bicubic, hr, 2))))
    assert len(scores) == 5
    mean_psnr, mean_ssim = np.mean(scores, axis=0)
    assert mean_psnr == pytest.approx(33.66, abs=0.05)
    assert mean_ssim == pytest.approx(0.9299, abs=0.002)
