"""The paper's protocol for scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esc_sr import families
from esc_sr.data.pairs import Pair
from esc_sr.data.sets import find_set
from esc_sr.errors import DataError, UsageError
from esc_sr.evaluate import Protocol, evaluate, predict, score
from esc_sr.evaluate.run import Method, ScoreRow, run
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.metrics import luma, psnr, ssim

MULTIPLES = {"esc": 32, "esc-fp": 32, "esc-xl": 48, "esc-real": 32, "esc-ws16": 16, "esc-ws24": 24}


class Enlarge(nn.Module):
    """Repeats pixels, adds a little, and keeps what it was given."""

    def __init__(self, scale: int, offset: float = 0.0) -> None:
        super().__init__()
        self.scale = scale
        self.offset = nn.Parameter(torch.tensor(offset))
        self.seen: list[Tensor] = []

    def forward(self, lr: Tensor) -> Tensor:
        self.seen.append(lr)
        return lr.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3) + self.offset


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(32, 64), (33, 40), (5, 70), (1, 2)])
def test_picture_is_reflected_to_a_multiple_of_32_and_cropped(height: int, width: int) -> None:
    model, lr = Enlarge(3), noise(height, width)
    sr = predict(model, lr, 3)
    np.testing.assert_array_equal(sr, lr.repeat(3, axis=0).repeat(3, axis=1))
    (seen,) = model.seen
    assert seen.shape == (1, 3, -(-height // 32) * 32, -(-width // 32) * 32)
    np.testing.assert_array_equal((seen[0, :, :height, :width] * 255).round().permute(1, 2, 0).numpy(), lr)
    if height == 33:
        torch.testing.assert_close(seen[:, :, 33:], seen[:, :, 1:32].flip(2), rtol=0, atol=0)


@pytest.mark.parametrize(("window", "padded"), [(8, (24, 40)), (12, (24, 36))])
def test_a_network_sees_multiples_of_its_own_windows(window: int, padded: tuple[int, int]) -> None:
    network = ESC(ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=window, heads=2)).eval()
    seen: list[tuple[int, ...]] = []
    network.head.register_forward_pre_hook(lambda _, x: seen.append(tuple(x[0].shape[2:])))
    assert predict(network, noise(17, 33), 2).shape == (34, 66, 3)
    assert set(seen) == {padded}


def test_published_padding_is_of_whole_windows() -> None:
    multiples = {name: families.blank(families.preset(name, 4)).measured_multiple for name in MULTIPLES}
    assert multiples == MULTIPLES


def test_output_is_clamped_and_rounded() -> None:
    lr = np.array([[[0, 100, 250]]], dtype=np.uint8)
    np.testing.assert_array_equal(predict(Enlarge(1, offset=0.6 / 255), lr, 1), [[[1, 101, 251]]])
    np.testing.assert_array_equal(predict(Enlarge(1, offset=0.4 / 255), lr, 1), [[[0, 100, 250]]])
    np.testing.assert_array_equal(predict(Enlarge(1, offset=0.1), lr, 1), [[[26, 126, 255]]])


def test_scores_are_means_over_pictures_on_y_with_the_scale_as_border() -> None:
    pairs = [Pair(str(seed), noise(20, 24, seed), noise(40, 48, seed + 9)) for seed in (1, 2)]
    scores = evaluate(Enlarge(2), pairs, 2)
    both = [(luma(pair.lr.repeat(2, axis=0).repeat(2, axis=1)), luma(pair.hr)) for pair in pairs]
    assert scores.psnr == pytest.approx(np.mean([float(psnr(sr, hr, 2)) for sr, hr in both]))
    assert scores.ssim == pytest.approx(np.mean([float(ssim(sr, hr, 2)) for sr, hr in both]))
    assert scores.pictures == 2
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluate(Enlarge(2), [], 2)


def test_protocols_refuse_what_they_do_not_know() -> None:
    wrongs: tuple[dict[str, Any], ...] = ({"padding": "tiles"}, {"channels": "lab"}, {"grey": "green"})
    for wrong in wrongs:
        with pytest.raises(UsageError, match="must be .* or "):
            Protocol(**wrong)


def test_features_padding_leaves_the_picture_as_it_is() -> None:
    model, lr = Enlarge(2), noise(5, 7)
    np.testing.assert_array_equal(predict(model, lr, 2, Protocol(padding="features")), predict(model, lr, 2))
    assert [seen.shape[-2:] for seen in model.seen] == [(5, 7), (32, 32)]


def test_without_rounding_the_values_stay() -> None:
    sr = predict(Enlarge(1, offset=0.4 / 255), noise(4, 4) // 2, 1, Protocol(rounded=False))
    assert sr.dtype == np.float32
    np.testing.assert_allclose(sr, noise(4, 4) // 2 + 0.4, atol=1e-4)


def test_self_ensemble_is_the_mean_over_views() -> None:
    class Ramp(nn.Module):
        """Adds what grows from left to right: seven of eight views cancel out."""

        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Parameter(torch.tensor(0.1))

        def forward(self, lr: Tensor) -> Tensor:
            return lr + self.slope * torch.linspace(0, 1, lr.shape[-1])

    lr = np.full((32, 32, 3), 100, np.uint8)
    once = predict(Ramp(), lr, 1).astype(int)
    mean = predict(Ramp(), lr, 1, Protocol(self_ensemble=True)).astype(int)
    assert np.ptp(once) >= 25 and np.ptp(mean) <= 1


def test_rgb_takes_all_channels_and_six_more_pixels() -> None:
    hr, sr = noise(60, 50), noise(60, 50, 1)
    found, _ = score(sr, hr, 4, Protocol(channels="rgb"))
    inside = (slice(10, -10), slice(10, -10))
    error = np.mean((sr[inside].astype(float) - hr[inside]) ** 2)
    assert found == pytest.approx(10 * np.log10(255**2 / error))


def test_raw_grey_is_compared_as_it_is_stored() -> None:
    hr, sr = (np.repeat(noise(30, 30, seed)[:, :, :1], 3, axis=2) for seed in (0, 1))
    raw, _ = score(sr, hr, 2, Protocol(grey="raw"), grey=True)
    error = np.mean((sr[2:-2, 2:-2].astype(float) - hr[2:-2, 2:-2]) ** 2)
    assert raw == pytest.approx(10 * np.log10(255**2 / error))
    through_rgb = score(sr, hr, 2, grey=True)
    assert through_rgb[0] == pytest.approx(raw + 20 * np.log10(255 / 219))
    assert score(sr, hr, 2, Protocol(grey="raw")) == through_rgb  # not stored as grey


@pytest.mark.parametrize(
    ("name", "grey", "scale", "psnr", "ssim"),
    [
        ("Set5", "rgb", 2, 33.66, 0.9299),
        ("Set5", "rgb", 3, 30.39, 0.8682),
        ("Set5", "rgb", 4, 28.42, 0.8104),
        ("Set14", "raw", 2, 30.24, 0.8688),
        ("Set14", "raw", 3, 27.55, 0.7742),
        ("Set14", "raw", 4, 26.00, 0.7027),
        ("Set14", "rgb", 4, 26.09, None),
    ],
)
def test_bicubic_is_what_everybody_reports(
    data_dir: Path, name: str, grey: str, scale: int, psnr: float, ssim: float | None
) -> None:
    rows: list[ScoreRow] = []
    run([Method("bicubic", None, None, Protocol(grey=grey))], find_set(data_dir / name, scale), rows)
    assert rows[0].complete
    assert rows[0].mean("psnr") == pytest.approx(psnr, abs=0.05)
    if ssim is not None:
        assert rows[0].mean("ssim") == pytest.approx(ssim, abs=0.002)
