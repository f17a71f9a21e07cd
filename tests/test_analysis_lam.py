"""Local attribution maps: their sum, the index of maps that are known, and where they can be."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.analysis import lam
from esc_sr.analysis.lam import BlurPath, Patch
from esc_sr.errors import UsageError
from esc_sr.families.bsrn import BSRN, BSRNConfig
from esc_sr.families.contract import Foreign, Network
from esc_sr.families.lte import EncoderLTE, LTEConfig
from test_network import VARIANTS, make

LR = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
PATCH = Patch(10, 14, 8)
SHORT = BlurPath(steps=12)


class Nearest(nn.Module):
    """Repeats pixels, times a number that is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, lr: Tensor) -> Tensor:
        return self.weight * F.interpolate(lr, scale_factor=2)


@pytest.mark.parametrize("name", ["esc", "fp", "own-lk-no-dk", "bsrn", "lte"])
def test_attributions_sum_to_the_difference_of_the_ends(name: str) -> None:
    network: Network
    torch.manual_seed(0)
    if name == "bsrn":
        network = BSRN(BSRNConfig(scale=2)).eval()
    elif name == "lte":
        network = EncoderLTE(LTEConfig(VARIANTS["esc"], 16, (16,))).eval()
    else:
        network = make(VARIANTS[name])
    found = lam.measure(network, LR, PATCH, scale=2, path=SHORT)
    assert (
        found.pixels.shape == LR.shape and found.map.shape == LR.shape[:2] and found.sr.shape == (40, 48, 3)
    )
    assert abs(found.sharp - found.blurred) > 0.1
    missed = found.pixels.sum() - (found.sharp - found.blurred)
    assert abs(missed) < 0.01 * abs(found.sharp - found.blurred)
    assert found.error == pytest.approx(abs(missed) / max(found.sharp, found.blurred), rel=0.01, abs=1e-6)
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


def test_more_steps_come_nearer() -> None:
    errors = [lam.measure(make(VARIANTS["esc"]), LR, PATCH, path=BlurPath(steps=n)).error for n in (2, 30)]
    assert errors[1] < errors[0] / 10


def test_a_network_that_repeats_pixels_takes_them_from_the_patch_alone() -> None:
    network = Foreign(Nearest(), 2)
    found = lam.measure(network, LR, PATCH, path=SHORT)
    inside = np.zeros(LR.shape[:2], bool)
    inside[5:10, 7:12] = True  # 8 x 8 px at (10, 14), and the pixel after it, but for the corner
    inside[9, 11] = False
    assert found.map[inside].min() > 0 and found.map[~inside].max() == 0
    assert lam.diffusion_index(found.map) < 100 * inside.mean()
    assert (lam.contributing(found.map) <= inside).all()


def test_the_index_of_known_maps() -> None:
    one, uniform = np.zeros((8, 5)), np.full((8, 5), 0.3)
    one[2, 3] = 7
    assert lam.diffusion_index(uniform) == pytest.approx(100)
    assert lam.diffusion_index(one) == pytest.approx(100 / 40)
    half = np.where(np.arange(40) % 2, 1.0, 0.0)
    assert lam.gini(half) == pytest.approx(0.5)
    values = np.random.default_rng(0).random(50)
    by_pairs = np.abs(values[:, None] - values).sum() / (2 * 50**2 * values.mean())
    assert lam.gini(values) == pytest.approx(by_pairs)


def test_the_area_holds_the_share_with_the_fewest_pixels() -> None:
    values = np.array([[5.0, 3.0], [1.0, 1.0]])
    assert lam.contributing(values, 0.5).tolist() == [[True, False], [False, False]]
    assert lam.contributing(values, 0.8).tolist() == [[True, True], [False, False]]
    assert lam.contributing(np.zeros((2, 2))).sum() == 0


def test_the_path_goes_from_blurred_to_sharp() -> None:
    x = torch.zeros(1, 3, 15, 15, dtype=torch.float64)
    x[0, :, 7, 7] = 1
    path = BlurPath(sigma=1.0, side=9)
    assert torch.equal(path.at(x, 1), x)
    spread = path.at(x, 0)[0, 0]
    wanted = np.exp(-((np.arange(15) - 7) ** 2) / 2)
    wanted[np.abs(np.arange(15) - 7) > 4] = 0
    wanted /= wanted.sum()
    assert np.allclose(spread.numpy(), np.outer(wanted, wanted))
    for wrong in ({"sigma": 0.0}, {"side": 4}, {"steps": 0}):
        with pytest.raises(UsageError, match="must be"):
            BlurPath(**wrong)


@pytest.mark.parametrize("multiple", [1, 8, 32])
def test_a_cut_out_holds_the_patch_on_whole_windows(multiple: int) -> None:
    lr = np.random.default_rng(0).integers(0, 256, (70, 150, 3), dtype=np.uint8)
    large = lr.repeat(2, 0).repeat(2, 1)
    for top in range(0, 140 - 17, 13):
        for left in range(0, 300 - 17, 13):
            patch = Patch(top, left)
            cut, inside = lam.cut_around(lr, patch, 2, 64, multiple)
            lam.check_patch(inside, (2 * cut.shape[0], 2 * cut.shape[1]))
            again = cut.repeat(2, 0).repeat(2, 1)
            part = (slice(0, 16), slice(0, 16))
            assert np.array_equal(large[top:, left:][part], again[inside.top :, inside.left :][part])
            assert (top - inside.top) % (2 * multiple) == (left - inside.left) % (2 * multiple) == 0
            assert all(64 <= side < 64 + multiple or side == 70 for side in cut.shape[:2])
    assert lam.cut_around(lr, Patch(0, 0), 2, 200)[0].shape == lr.shape


def test_the_patch_is_where_pictures_differ() -> None:
    a = np.zeros((60, 80, 3), np.uint8)
    b = a.copy()
    b[21:37, 30:46] = 255
    assert lam.differing_patch([a, b]) == (21, 30, 16)
    b[44:60, 64:80] = 255  # in the corner, where the pixel after it would be outside
    b[21:37, 30:46] = 0
    assert lam.differing_patch([a, b]) == (43, 63, 16)


def test_what_is_outside_is_refused() -> None:
    network = make(VARIANTS["esc"])
    for patch in (Patch(25, 0), Patch(0, 32), Patch(-1, 0), Patch(0, 0, 0), Patch(0, 0, 60)):
        with pytest.raises(UsageError, match="is not inside the enlarged picture of 48 x 40 px"):
            lam.measure(network, LR, patch)
    with pytest.raises(UsageError, match="24 x 3 px is too small for a blur of 9 px"):
        lam.measure(Foreign(Nearest(), 2), LR[:3], Patch(0, 0, 2))
    with pytest.raises(UsageError, match="24 x 7 px are less than a window"):
        lam.measure(network, LR[:7], Patch(0, 0, 2))


def test_a_figure_of_two(tmp_path: Path) -> None:
    found = {
        name: lam.measure(make(VARIANTS[name]), LR, PATCH, path=BlurPath(steps=2)) for name in ("esc", "xl")
    }
    figure = lam.draw(LR, PATCH, found, 2)
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 9 and titles[1].startswith("esc\nDI ") and titles[8].endswith("% of LR")
    figure.savefig(tmp_path / "a.png")
