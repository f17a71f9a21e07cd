"""BSRN and SRVGGNetCompact: their arithmetic, their sizes, and the numbers of their published weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from esc_sr import weights
from esc_sr.data.sets import find_set
from esc_sr.evaluate import predict, score
from esc_sr.families.bsrn import BSRN, BSRNConfig
from esc_sr.families.contract import Network
from esc_sr.families.srvgg import SRVGGConfig, SRVGGNetCompact
from peer_files import TINY, bsrn, published, srvgg

State = dict[str, Tensor]


def blueprint(x: Tensor, state: State, name: str, stride: int = 1, padding: int = 1) -> Tensor:
    x = F.conv2d(x, state[f"{name}.pw.weight"])
    weight, bias = state[f"{name}.dw.weight"], state[f"{name}.dw.bias"]
    return F.conv2d(x, weight, bias, stride, padding, groups=len(weight))


def pointwise(x: Tensor, state: State, name: str) -> Tensor:
    return (
        torch.einsum("oi,bihw->bohw", state[f"{name}.weight"][:, :, 0, 0], x)
        + state[f"{name}.bias"][:, None, None]
    )


def esa(x: Tensor, state: State, name: str) -> Tensor:
    narrow = pointwise(x, state, f"{name}.conv1")
    y = blueprint(narrow, state, f"{name}.conv2", stride=2, padding=0)
    y = y.unfold(2, 7, 3).unfold(3, 7, 3).amax((-2, -1))
    for layer in ("conv_max", "conv3"):
        y = F.gelu(blueprint(y, state, f"{name}.{layer}"))
    y = blueprint(y, state, f"{name}.conv3_")
    y = F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)
    return x * pointwise(y + pointwise(narrow, state, f"{name}.conv_f"), state, f"{name}.conv4").sigmoid()


def cca(x: Tensor, state: State, name: str) -> Tensor:
    flat = x.flatten(2)
    mean = flat.mean(2, keepdim=True)
    contrast = ((flat - mean) ** 2).mean(2).sqrt() + mean[:, :, 0]
    gate = F.relu(pointwise(contrast[:, :, None, None], state, f"{name}.conv_du.0"))
    return x * pointwise(gate, state, f"{name}.conv_du.2").sigmoid()


def block(x: Tensor, state: State, name: str) -> Tensor:
    r, aside = x, []
    for i in (1, 2, 3):
        aside.append(F.gelu(pointwise(r, state, f"{name}.c{i}_d")))
        r = F.gelu(blueprint(r, state, f"{name}.c{i}_r") + r)
    aside.append(F.gelu(blueprint(r, state, f"{name}.c4")))
    y = pointwise(torch.cat(aside, 1), state, f"{name}.c5")
    return x + cca(esa(y, state, f"{name}.esa"), state, f"{name}.cca")


def test_bsrn_does_what_was_published() -> None:
    network = bsrn(scale=3)
    state, lr = network.state_dict(), torch.rand(2, 3, 31, 23)
    shallow = f = blueprint(torch.cat([lr] * 4, 1), state, "fea_conv")
    deep = []
    for number in (1, 2):
        f = block(f, state, f"B{number}")
        deep.append(f)
    f = blueprint(F.gelu(pointwise(torch.cat(deep, 1), state, "c1")), state, "c2") + shallow
    last = "upsampler.upsampleOneStep.0"
    expected = F.pixel_shuffle(F.conv2d(f, state[f"{last}.weight"], state[f"{last}.bias"], padding=1), 3)
    torch.testing.assert_close(network(lr), expected, atol=1e-5, rtol=1e-5)


def test_srvgg_does_what_was_published() -> None:
    network = srvgg(scale=3)
    state, lr = network.state_dict(), torch.rand(2, 3, 9, 7)
    x = lr
    for layer in range(0, 9, 2):
        x = F.conv2d(x, state[f"body.{layer}.weight"], state[f"body.{layer}.bias"], padding=1)
        if layer < 8:
            slope = state[f"body.{layer + 1}.weight"][:, None, None]
            x = x.clamp(min=0) + slope * x.clamp(max=0)
    expected = F.pixel_shuffle(x, 3) + lr.repeat_interleave(3, 2).repeat_interleave(3, 3)
    torch.testing.assert_close(network(lr), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("network", TINY.values(), ids=TINY)
def test_several_pictures_are_each_by_itself(network: Network) -> None:
    lr = torch.rand(3, 3, 20, 33)
    with torch.no_grad():
        single = torch.cat([network(one) for one in lr.split(1)])
        torch.testing.assert_close(network(lr), single, atol=1e-5, rtol=0)


@pytest.mark.parametrize("network", TINY.values(), ids=TINY)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (14, 15), (15, 15), (17, 3)])
def test_any_size_goes_through(network: Network, size: tuple[int, int]) -> None:
    sr = network(torch.rand(1, 3, *size))
    assert sr.shape == (1, 3, 2 * size[0], 2 * size[1])
    assert sr.isfinite().all()
    sr.mean().backward()


def test_what_is_added_below_a_low_picture_repeats_its_last_row() -> None:
    lr = torch.rand(1, 3, 4, 20)
    taller = torch.cat([lr, lr[:, :, -1:].expand(-1, -1, 11, -1)], 2)
    network = bsrn()
    torch.testing.assert_close(network(lr), network(taller)[:, :, :8])


def test_parameters_are_as_many_as_published() -> None:
    for network, count in ((BSRN(BSRNConfig()), 331_628), (SRVGGNetCompact(SRVGGConfig()), 1_213_296)):
        assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(
    ("scale", "name", "psnr"),
    [(2, "butterfly", 35.56), (2, "bird", 43.35), (3, "butterfly", 31.08), (4, "woman", 30.85)],
)
def test_published_bsrn_has_its_published_scores(scale: int, name: str, psnr: float, data_dir: Path) -> None:
    network = weights.load(published(f"bsrn_x{scale}.pth"))
    pair = next(pair for pair in find_set(data_dir / "Set5", scale).pairs() if pair.name == name)
    found, _ = score(predict(network, pair.lr, scale), pair.hr, scale)
    assert found == pytest.approx(psnr, abs=0.0051)


def test_published_srvgg_enlarges() -> None:
    network = weights.load(published("realesr_general_x4v3.safetensors"))
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    lr = np.full((24, 24, 3), 60, np.uint8)
    lr[:, 12:] = 200
    sr = predict(network, lr, 4).astype(int)
    left, right = sr[:, :32].mean(), sr[:, 64:].mean()
    assert abs(left - 60) < 8 and abs(right - 200) < 8  # an edge stays an edge
