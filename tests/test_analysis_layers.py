"""Features, receptive fields, kernels and attention: what is known of them by construction."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from esc_sr.analysis import distances, features, filters, lam, receptive, similarity
from esc_sr.analysis.lam import BlurPath
from esc_sr.errors import UsageError
from esc_sr.families.bsrn import BSRN, BSRNConfig
from esc_sr.families.contract import Foreign
from esc_sr.families.esc.blocks import DecomposedConvAttn, WindowAttention
from esc_sr.network.attention import Compared, SelfAttention
from pretend_gpu import pretended_gpu
from test_network import VARIANTS, assert_equal, make

RNG = np.random.default_rng(0)
LR = RNG.integers(0, 256, (18, 21, 3), dtype=np.uint8)
OTHER = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)


class Convolutions(nn.Module):
    """Three 3 x 3 convolutions, all weights 1, then twice as large."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(3)))
        for parameter in self.parameters():
            nn.init.ones_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(self.layers(x), scale_factor=2)


def test_features_are_means_over_channels() -> None:
    found = features.measure(make(VARIANTS["esc"]), LR)
    assert list(found) == ["mean", "CA 0.0", "CA 0.1", "CA 1.0", "CA 1.1"]
    for name, mean in found["mean"].items():
        assert mean.shape == (18, 21)
        assert np.allclose(mean, np.mean([found[label][name] for label in [*found][1:]], axis=0))
    assert not np.allclose(found["CA 0.0"]["large kernel"], found["CA 0.0"]["large + dynamic"])


def test_features_of_layers_by_name(tmp_path: Path) -> None:
    network = BSRN(BSRNConfig(scale=2)).eval()
    seen = []
    network.get_submodule("B3").register_forward_hook(
        lambda _, inputs, output: seen.append(output[0].mean(0))
    )
    found = features.measure(network, LR, patterns=["B3"])
    assert np.allclose(found["B3"]["output"], seen[0].detach().numpy(), atol=1e-6)
    features.draw(found, "BSRN").savefig(tmp_path / "a.png")
    with pytest.raises(UsageError, match="has no ConvAttn"):
        features.measure(network, LR)


def test_a_field_of_convolutions_is_known() -> None:
    field = receptive.measure(Foreign(Convolutions(), 2), [LR, OTHER], side=15)
    one = np.array([1, 3, 6, 7, 6, 3, 1]) / 27
    wanted = np.zeros((15, 15))
    wanted[4:11, 4:11] = np.outer(one, one)
    assert np.allclose(field, wanted, atol=1e-7)
    assert receptive.extent(field) == 7
    assert [receptive.width_of(field, share) for share in (0.01, 0.5, 1)] == [1, 5, 7]
    assert receptive.rings(field)[[0, 3, 7]] == pytest.approx([one[3] ** 2, 1, 1])
    with pytest.raises(UsageError, match="16 x 16 px are less than the 17 x 17"):
        receptive.measure(Foreign(Convolutions(), 2), [OTHER], side=17)


def test_dynamic_kernels_see_the_whole_picture() -> None:
    lr = RNG.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    near, far = (
        receptive.measure(make(VARIANTS[name]), [lr], side=40) for name in ("own-lk-no-dk", "own-lk")
    )
    assert near.sum() == pytest.approx(1) and near.argmax() == 40 * 20 + 20
    assert receptive.extent(far) > 40  # means over the whole picture


@torch.no_grad()
def test_kernels_are_those_that_are_convolved_with() -> None:
    net = make(VARIANTS["fp"])
    layer = net.get_submodule("blocks.0.convattns.0")
    assert isinstance(layer, DecomposedConvAttn)
    x = torch.randn(1, 8, 20, 20)
    wanted = layer.convolve(x, net.shared(), torch.zeros(1, 8, 3, 3))
    assert_equal(F.conv2d(x, filters.full(net.shared()), padding=6), wanted)


@pytest.mark.parametrize(
    ("name", "large", "dynamic"),
    [("esc", 1, 2), ("own-lk", 4, 2), ("own-lk-no-dk", 4, 0), ("fp", 1, 2)],
)
def test_kernels_of_a_network(name: str, large: int, dynamic: int, tmp_path: Path) -> None:
    net = make(VARIANTS[name])
    found = filters.measure(net, [LR, OTHER])
    assert found.large.shape == (large, 8, 8, 13, 13)
    assert found.dynamic.shape == (dynamic, 4, 8, 3, 3)
    if name != "fp":  # symmetrized
        assert np.allclose(found.large, found.large.swapaxes(-1, -2), atol=1e-7)
        assert np.allclose(filters.energy(found.large), filters.energy(found.large)[::-1])
    assert filters.energy(found.large).sum() == pytest.approx(1)
    if dynamic:
        assert (filters.variation(found.dynamic) > 0).all()
        assert (filters.strength(found.dynamic, found.large) > 0).all()
        assert np.allclose(filters.variation(found.dynamic[:1].repeat(3, 0)), 0)
    filters.draw(found).savefig(tmp_path / "a.png")


def test_the_spectrum_of_known_kernels() -> None:
    point, even = np.zeros((1, 5, 5), np.float32), np.full((1, 5, 5), 1 / 25, np.float32)
    point[0, 1, 3] = 2
    assert np.allclose(filters.spectrum(point), 2)
    found = filters.spectrum(even)
    assert found[32, 32] == found.max() == pytest.approx(1)
    assert found.mean() < 0.2


def test_a_mosaic_has_every_kernel_in_its_place() -> None:
    kernels = RNG.normal(size=(2, 3, 4, 4)).astype(np.float32)
    picture = filters.mosaic(kernels)
    assert picture.shape == (9, 14) and np.isnan(picture[4]).all() and np.isnan(picture[:, [4, 9]]).all()
    assert np.allclose(picture[5:9, 10:14], kernels[1, 2] / np.abs(kernels[1, 2]).max())


def compared(scores: float, side: int = 3) -> Compared:
    """Queries and keys whose products are large where they are the same, by so much."""
    q = torch.eye(side**2).expand(2, 1, -1, -1) * scores
    places = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    return Compared(
        q, torch.eye(side**2).expand(2, 1, -1, -1), torch.zeros(1, side**2, side**2), (places, places)
    )


def mean_distance(side: int) -> float:
    points = [(i, j) for i in range(side) for j in range(side)]
    return float(np.mean([np.hypot(a - c, b - d) for a, b in points for c, d in points]))


def test_distances_of_known_attentions() -> None:
    everything, itself = (distances.distance_sums(compared(scores)) / 2 for scores in (0, 1e4))
    assert everything.tolist() == pytest.approx([mean_distance(3)], rel=1e-6)
    assert itself.tolist() == [0]


def test_biases_and_distances_of_a_network(tmp_path: Path) -> None:
    net = make(VARIANTS["esc"])
    found = distances.measure(net, [LR, OTHER])
    assert list(found) == ["SA 0", "SA 1"]
    layer = net.get_submodule("blocks.1.attn")
    assert isinstance(layer, WindowAttention)
    assert np.allclose(found["SA 1"].bias, layer.bias_table.detach().view(2, 15, 15).numpy(), atol=1e-6)
    assert (found["SA 1"].distance > 2).all() and (found["SA 1"].distance < 8).all()
    assert found["SA 1"].even == pytest.approx(mean_distance(8))
    distances.draw(found).savefig(tmp_path / "a.png")


def test_a_network_without_attention_is_refused() -> None:
    with pytest.raises(UsageError, match="BSRN.* has no SelfAttention"):
        distances.measure(BSRN(BSRNConfig(scale=2)), [LR])

    class Silent(SelfAttention):
        pass

    net = make(VARIANTS["only-convattn"])
    net.add_module("silent", Silent())
    with pytest.raises(UsageError, match="do not tell what they compare"):
        distances.attentions(net)


def test_all_is_the_same_on_a_gpu() -> None:
    net = make(VARIANTS["esc"])
    small = BlurPath(steps=1)

    def arrays() -> list[np.ndarray]:
        found = similarity.measure(net, [OTHER])
        looks = distances.measure(net, [OTHER])["SA 1"]
        return [
            *(part for one in found.values() for part in (one.cka, one.cosine)),
            *(mean for means in features.measure(net, OTHER).values() for mean in means.values()),
            lam.measure(net, OTHER, lam.Patch(4, 5, 6), path=small).pixels,
            receptive.measure(net, [OTHER], side=10),
            *filters.measure(net, [OTHER])[1:],
            looks.bias,
            looks.distance,
        ]

    here = arrays()
    with pretended_gpu():
        net.to("cuda")
        there = arrays()
    assert all(np.allclose(a, b, atol=1e-5, equal_nan=True) for a, b in zip(here, there, strict=True))
