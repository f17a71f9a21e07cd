"""NIQE: fits of known distributions, features against scikit-image, a known score, and its verdicts."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage.filters import gaussian
from torch import Tensor

from esc_sr.bicubic import resize
from esc_sr.errors import UsageError, WeightsError
from esc_sr.image import read_image, to_rgb8
from esc_sr.metrics import luma
from esc_sr.niqe import PATCH, NiqeModel, _measure, fit_aggd, fit_niqe, load_niqe, niqe

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "src" / "esc_sr" / "niqe.safetensors"
HARBOUR = 2.083817983
"""The example picture's distance from mean 0 and unit covariance, as another implementation computes it."""


@cache
def photo() -> Tensor:
    """Y of the example picture, (320, 480)."""
    return luma(to_rgb8(read_image(ROOT / "examples" / "harbour.png")))


def noise(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (height, width), generator=generator).double()


@pytest.mark.parametrize(
    ("shape", "left", "right"), [(2.0, 1.0, 1.0), (1.0, 0.5, 0.5), (0.6, 0.3, 0.8), (4.0, 2, 1)]
)
def test_parameters_of_sampled_data_are_found_again(shape: float, left: float, right: float) -> None:
    rng = np.random.default_rng(0)
    size = rng.gamma(1 / shape, 1, 400_000) ** (1 / shape)  # of a generalized Gaussian of width 1
    is_left = rng.random(size.shape) < left / (left + right)
    samples = torch.from_numpy(np.where(is_left, -left * size, right * size))
    found = torch.stack(fit_aggd(torch.stack([samples, 3 * samples])), dim=1)
    expected = torch.tensor([[shape, left, right], [shape, 3 * left, 3 * right]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0)


def test_a_side_without_samples_has_no_width() -> None:
    _, left, right = fit_aggd(torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64))
    assert (left.isnan().tolist(), right.isnan().tolist()) == ([True, True], [True, False])


def test_first_features_are_those_of_the_contrast_as_scikit_image_blurs() -> None:
    y = photo().round()[: 3 * PATCH, : 5 * PATCH]
    half = resize(y, (y.shape[0] // 2, y.shape[1] // 2))
    features, sharpness = _measure(photo(), 0)
    assert features.shape == (15, 36)
    for plane, side, first in ((y, PATCH, 0), (half, PATCH // 2, 18)):
        options = {"sigma": 7 / 6, "mode": "nearest", "truncate": 18 / 7, "preserve_range": True}
        mean = gaussian(plane.numpy(), **options)
        deviation = np.sqrt(np.abs(gaussian(plane.numpy() ** 2, **options) - mean**2))
        contrast = torch.from_numpy((plane.numpy() - mean) / (deviation + 1))
        patch = (slice(side, 2 * side), slice(2 * side, 3 * side))
        shape, left, right = fit_aggd(contrast[patch].flatten().round(decimals=9))
        expected = torch.stack([shape, (left + right) / 2])
        torch.testing.assert_close(features[7, first : first + 2], expected, rtol=0, atol=1e-6)
        if first == 0:
            assert float(sharpness[7]) == pytest.approx(deviation[patch].mean())


def test_score_is_that_of_an_independent_implementation() -> None:
    origin = NiqeModel(torch.zeros(36, dtype=torch.float64), torch.eye(36, dtype=torch.float64))
    assert niqe(photo(), model=origin) == pytest.approx(HARBOUR, abs=1e-6)


def test_blur_and_noise_make_it_worse() -> None:
    sharp = photo()
    blurred = [torch.from_numpy(gaussian(sharp.numpy(), sigma, preserve_range=True)) for sigma in (1, 2, 4)]
    grain = torch.randn(sharp.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy = [(sharp + level * grain).clamp(0, 255) for level in (10, 25, 60)]
    for worse in (blurred, noisy):
        scores = [niqe(y) for y in (sharp, *worse)]
        assert scores == sorted(scores) and scores[0] >= 0


def test_values_are_rounded_and_the_border_cut() -> None:
    y = noise(196, 100)
    assert niqe(y + 0.4) == niqe(y.float()) == niqe(y.requires_grad_())
    assert niqe(y, border=2) == niqe(y[2:-2, 2:-2]) != niqe(y)


def test_too_little_to_measure_is_refused() -> None:
    flat = torch.full((192, 192), 200.0)
    half_flat = flat.clone()
    half_flat[:PATCH, :PATCH] = noise(PATCH, PATCH)
    half_flat[PATCH - 8 : PATCH, :PATCH] = half_flat[:PATCH, PATCH - 8 : PATCH] = 200  # no neighbour sees it
    for y, border, count in (
        (noise(191, 100), 0, 1),
        (noise(192, 96), 1, 0),
        (flat, 0, 0),
        (half_flat, 0, 1),
    ):
        with pytest.raises(
            UsageError, match=f"needs two patches of 96 x 96 px that are not flat.*has {count}"
        ):
            niqe(y, border)


def test_a_picture_is_at_no_distance_from_its_own_model() -> None:
    y = noise(6 * PATCH, 7 * PATCH)
    model, patches = fit_niqe([y])
    assert patches == 42
    assert niqe(y, model=model) == pytest.approx(0, abs=1e-6)


def test_only_sharp_patches_are_fitted() -> None:
    y = noise(12 * PATCH, 7 * PATCH)
    y[: 6 * PATCH] = 128 + (y[: 6 * PATCH] - 128) / 2
    assert fit_niqe([torch.zeros(200, 200), y, noise(50, 50)])[1] == 42
    with pytest.raises(UsageError, match="36 sharp patches: a model needs more"):
        fit_niqe([noise(6 * PATCH, 6 * PATCH)])


def test_models_are_read_whatever_their_arrays_are_called(tmp_path: Path) -> None:
    own = load_niqe(BUNDLED)
    assert float(torch.linalg.eigvalsh(own.covariance).min()) > 0
    window = np.ones((7, 7))
    np.savez(tmp_path / "a.npz", mu=own.mean[None], sigma=own.covariance, window=window)
    read = load_niqe(tmp_path / "a.npz")
    torch.testing.assert_close((read.mean, read.covariance), (own.mean, own.covariance), rtol=0, atol=0)
    assert niqe(photo(), model=read) == niqe(photo())


def test_files_without_a_model_are_refused(tmp_path: Path) -> None:
    save_file({"mean": torch.zeros(36)}, tmp_path / "half.safetensors")
    with pytest.raises(WeightsError, match=r"one array of 36 values and one of 36 x 36, holds mean \(36,\)"):
        load_niqe(tmp_path / "half.safetensors")
    for name in ("bad.npz", "bad.safetensors"):
        (tmp_path / name).write_bytes(b"PK not a model")
        with pytest.raises(WeightsError, match="cannot read"):
            load_niqe(tmp_path / name)
    with pytest.raises(WeightsError, match=r"no\.npz"):
        load_niqe(tmp_path / "no.npz")
