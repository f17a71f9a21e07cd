"""The paper's protocol for scores, and benchmark sets in their usual layouts."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from esc_sr.data.pairs import Pair
from esc_sr.errors import DataError
from esc_sr.evaluate import benchmark_pairs, evaluate, predict
from esc_sr.metrics import luma, psnr, ssim
from esc_sr.resize import Edge, downscale


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


def test_sets_are_read_from_their_layouts(tmp_path: Path) -> None:
    hr, lr = noise(40, 44), noise(20, 22, 1)
    files = {
        "Set5/HR/a.png": hr,
        "Set5/LR_bicubic/X2/ax2.png": lr,
        "Set14/X2/HR/b.png": hr[:, :, 0],
        "Set14/X2/LR/b.png": lr[:, :, 0],
        "BSD100/HR/c.png": hr,
    }
    for name, pixels in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
    (set5,) = benchmark_pairs(tmp_path, "Set5", 2)
    np.testing.assert_array_equal(set5.lr, lr)
    np.testing.assert_array_equal(set5.hr, hr)
    (set14,) = benchmark_pairs(tmp_path, "Set14", 2)
    np.testing.assert_array_equal(set14.lr, lr[:, :, [0, 0, 0]])
    (bsd,) = benchmark_pairs(tmp_path, "BSD100", 3)
    np.testing.assert_array_equal(bsd.lr, downscale(hr, 3))
    np.testing.assert_array_equal(bsd.hr, hr[:39, :42])
    assert [set5.name, set14.name, bsd.name] == ["a", "b", "c"]


def test_unknown_and_missing_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no benchmark set 'Set6'; there are Set5"):
        list(benchmark_pairs(tmp_path, "Set6", 2))
    with pytest.raises(DataError, match="Set14 is not there"):
        list(benchmark_pairs(tmp_path, "Set14", 2))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("name", "count"), [("Set5", 5), ("Set14", 14)])
def test_the_real_sets_fit_together(name: str, count: int, scale: int) -> None:
    if "ESC_SR_DATA" not in os.environ:
        pytest.skip("ESC_SR_DATA does not name a folder with Set5 and Set14")
    edge: Edge = "mirror" if name == "Set5" else "replicate"
    pairs = list(benchmark_pairs(Path(os.environ["ESC_SR_DATA"]), name, scale))
    assert len(pairs) == count
    np.testing.assert_array_equal(pairs[0].lr, downscale(pairs[0].hr, scale, edge=edge))
    assert all(pair.hr.shape[:2] == (scale * pair.lr.shape[0], scale * pair.lr.shape[1]) for pair in pairs)
