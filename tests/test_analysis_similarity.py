"""Similarity of layers: what CKA and cosine are by definition, and that hooks see what layers compute."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from esc_sr.analysis import maps as maps_module
from esc_sr.analysis import similarity
from esc_sr.analysis.convattn import parts
from esc_sr.analysis.recording import Layer, feature_map, find_layers, record
from esc_sr.errors import UsageError
from esc_sr.families.bsrn import BSRN, BSRNConfig
from esc_sr.families.esc.blocks import ConvAttn, WindowAttention
from esc_sr.families.parts.windows import ShiftedAttention
from esc_sr.families.swinir.network import SwinIR, SwinIRConfig
from esc_sr.network.attention import SelfAttention, cut_windows, join_windows, position_bias
from test_network import VARIANTS, assert_equal, make, picture

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((16, 9), (8, 24))]


def features(n: int, *widths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, c, generator=generator, dtype=torch.float64) + 3 for c in widths]


def cka_of(x: Tensor, y: Tensor) -> float:
    """By the definition: HSIC of Gram matrices, of examples by examples."""
    n = len(x)
    centre = torch.eye(n, dtype=torch.float64) - 1 / n
    k, m = (centre @ a @ a.T @ centre for a in (x, y))
    return float((k * m).sum() / ((k * k).sum() * (m * m).sum()).sqrt())


def moments(*layers: Tensor) -> similarity.Moments:
    sums = similarity.Moments()
    sums.add(layers)
    return sums


def test_features_turned_scaled_and_moved_are_the_same() -> None:
    (x,) = features(500, 12)
    turn = torch.linalg.qr(features(12, 12)[0])[0]
    cka = moments(x, x, 7 * x @ turn + 5).cka()
    assert np.allclose(cka, 1, atol=1e-12)


def test_independent_features_are_far_apart() -> None:
    x, y = features(20_000, 8, 8)
    assert moments(x, y).cka()[0, 1] < 1e-3
    assert cka_of(*features(50, 8, 8)) > 0.05  # few examples would not do


def test_streaming_gives_what_the_definition_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "_PART", 7)
    layers = features(90, 5, 5, 3)
    layers[1] = layers[1] + 0.7 * layers[0]
    sums = similarity.Moments()
    for part in (slice(0, 1), slice(1, 40), slice(40, 90)):
        sums.add([x[part] for x in layers])
    cka, cosine = sums.cka(), sums.cosine()
    for i, x in enumerate(layers):
        for j, y in enumerate(layers):
            assert cka[i, j] == pytest.approx(cka_of(x, y), abs=1e-12)
            if x.shape == y.shape:
                wanted = torch.cosine_similarity(x.flatten(), y.flatten(), 0)
                assert cosine[i, j] == pytest.approx(float(wanted), abs=1e-12)
            else:
                assert np.isnan(cosine[i, j])


def test_maps_of_one_picture_are_compared_by_the_definition() -> None:
    x, y = (a.softmax(1) for a in features(20, 20, 20))
    sums = similarity.MapMoments()
    sums.add([x, y])
    assert sums.cka()[0, 1] == pytest.approx(cka_of(x, y), abs=1e-12)
    assert sums.cosine()[0, 1] == pytest.approx(float(torch.cosine_similarity(x.flatten(), y.flatten(), 0)))
    sums.add([x, x])
    assert cka_of(x, y) < sums.cka()[0, 1] < 1


@torch.no_grad()
def test_the_averaged_map_is_that_of_all_scores() -> None:
    net, x = make(VARIANTS["esc"]), torch.randn(2, 16, 16, 24)
    layer = net.get_submodule("blocks.0.attn")
    assert isinstance(layer, WindowAttention)
    qkv = layer.qkv(x).view(2, 3, 2, 8, 2, 8, 3, 8).permute(1, 0, 4, 6, 2, 5, 7, 3).reshape(3, 12, 2, 64, 8)
    scores = qkv[0] @ qkv[1].transpose(2, 3) / 8**0.5 + position_bias(layer.bias_table, 8)
    found = maps_module.mean_map(layer.compared(x))
    assert_equal(found.float(), scores.softmax(-1).mean((0, 1)))
    assert torch.allclose(found.sum(1), torch.ones(64, dtype=torch.float64), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", ["esc", "fp", "all-channels", "own-lk", "own-lk-no-dk"])
def test_parts_make_up_a_convattn(name: str) -> None:
    net, x = make(VARIANTS[name]), torch.randn(2, 16, 9, 12)
    layer = net.get_submodule("blocks.0.convattns.1")
    assert isinstance(layer, ConvAttn)
    inside = parts(layer, x, net.shared())
    assert_equal(layer.fuse(torch.cat((inside.both, inside.idt), 1)), layer(x, net.shared()))
    assert (inside.dynamic is None) == (not layer.dynamic)
    assert torch.equal(inside.large, inside.both) == (not layer.dynamic)


def test_hooks_show_every_layer_once_and_go() -> None:
    net, seen = make(VARIANTS["esc"]), []
    layers = find_layers(net)
    assert [layer.label for layer in layers] == ["SA 0", "CA 0.0", "CA 0.1", "SA 1", "CA 1.0", "CA 1.1"]

    def see(layer: Layer, inputs: tuple[Any, ...], output: Tensor) -> None:
        seen.append(layer.name)
        assert isinstance(layer.module, SelfAttention) or len(inputs) == 2

    lr = picture(9, 11)
    sr = record(net, lr, layers, see)
    assert seen == [layer.name for layer in layers]
    with torch.no_grad():
        assert_equal(net(lr), sr)
    record(net, lr, [], see)
    assert len(seen) == 6


def test_measuring_a_network() -> None:
    found = similarity.measure(make(VARIANTS["esc"]), PICTURES)
    assert list(found) == [
        "added to the skip path",
        "large kernel alone",
        "large and dynamic kernel",
        "attention maps, 64 x 64",
    ]
    for one in found.values():
        assert one.cka.shape == one.cosine.shape == (len(one.layers),) * 2
        assert np.allclose(one.cka.diagonal(), 1) and np.allclose(one.cosine.diagonal(), 1)
        assert np.allclose(one.cka, one.cka.T) and (one.cka < 1 + 1e-9).all() and (one.cka >= 0).all()
        assert 0 < one.mean("cka") < 1
    both = (
        found["added to the skip path"],
        similarity.measure(make(VARIANTS["esc"]), PICTURES, pixels=100)["added to the skip path"],
    )
    assert 0 < np.abs(both[0].cka - both[1].cka).max() < 0.2  # a part of the pixels tells nearly the same


def test_layers_by_name_of_any_network() -> None:
    bsrn = BSRN(BSRNConfig(scale=2))
    with pytest.raises(
        UsageError, match="BSRN.*has no SelfAttention nor ConvAttn; choose layers by name: there are"
    ):
        find_layers(bsrn)
    with pytest.raises(UsageError, match="no layer is called nonsense"):
        find_layers(bsrn, ["nonsense"])
    blocks = [name for name, _ in bsrn.named_children()]
    found = similarity.measure(bsrn.eval(), PICTURES, patterns=["B?"])
    assert len(found["added to the skip path"].layers) == sum(
        name[0] == "B" and len(name) == 2 for name in blocks
    )
    with pytest.raises(UsageError, match="compare layers of one size"):
        similarity.measure(make(VARIANTS["esc"]), PICTURES, patterns=["head", "upsampler"])


def test_a_picture_below_the_window_is_refused() -> None:
    with pytest.raises(
        UsageError, match="9 x 7 px are less than a window of the network, which has 8 x 8 px"
    ):
        similarity.measure(make(VARIANTS["esc"]), [PICTURES[0][:7]])


def test_maps_are_told_by_their_sides() -> None:
    first, last = torch.zeros(1, 16, 24, 20), torch.zeros(1, 24, 20, 16)
    for size in ((24, 20), (21, 17)):  # padded to whole windows or not
        assert feature_map(first, size) is first
        turned = feature_map(last, size)
        assert turned is not None and turned.shape == first.shape
    assert feature_map(torch.zeros(3, 4), (3, 4)) is None
    assert feature_map((first,), (24, 20)) is None


@torch.no_grad()
@pytest.mark.parametrize("block", [0, 1])
def test_the_maps_of_shifted_windows_are_those_that_it_attends_by(block: int) -> None:
    torch.manual_seed(0)
    net = SwinIR(SwinIRConfig(scale=2, dim=12, depths=(2,), heads=2, window=4, hidden=8)).eval()
    (layer,) = find_layers(net, [f"layers.0.residual_group.blocks.{block}.attn"])
    seen = []

    def see(_: Layer, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, qkv = inputs
        module = layer.module
        assert isinstance(module, ShiftedAttention)
        rolled = x.roll((-module.shift,) * 2, (1, 2))
        values = cut_windows(qkv(rolled).permute(0, 3, 1, 2), 2, 4)[2]
        maps = torch.stack([*maps_module.window_maps(module.compared(*inputs))])
        y = join_windows(maps @ values, rolled.permute(0, 3, 1, 2), 4).permute(0, 2, 3, 1)
        seen.append((module.proj(y).roll((module.shift,) * 2, (1, 2)), output))

    record(net, picture(11, 14), [layer], see)
    assert_equal(*seen[0])


def test_similarity_of_swin() -> None:
    net = SwinIR(SwinIRConfig(scale=2, dim=12, depths=(2,), heads=2, window=4, hidden=8)).eval()
    found = similarity.measure(net, PICTURES)
    assert [one.layers for one in found.values()] == [("SA 0.0", "SA 0.1")] * 2
    assert 0 < found["attention maps, 16 x 16"].mean("cka") <= 1
    with pytest.raises(UsageError, match="is not called as a module"):
        similarity.measure(net, PICTURES, patterns=["layers"])
