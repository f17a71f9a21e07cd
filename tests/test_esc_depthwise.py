"""Kernels of a channel each, small and large, and their gradients, against torch's own."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from esc_sr import native
from esc_sr.families.esc.depthwise import depthwise


def plain(x: Tensor, kernels: Tensor) -> Tensor:
    reach = kernels.shape[-1] // 2
    rows = [
        F.conv2d(p[None], k[:, None], padding=reach, groups=len(k)) for p, k in zip(x, kernels, strict=True)
    ]
    return torch.cat(rows)


@pytest.mark.parametrize("sides", [(64, 64), (40, 23), (5, 3), (1, 1)])
@pytest.mark.parametrize("size", [3, 9, 13, 35])
@pytest.mark.parametrize("kernels_are", ["there", "not there"])
def test_result_and_gradients_are_those_of_the_convolution(
    sides: tuple[int, int], size: int, kernels_are: str
) -> None:
    with native.without() if kernels_are == "not there" else nullcontext():
        compare(sides, size)


def compare(sides: tuple[int, int], size: int) -> None:
    torch.manual_seed(0)
    x, kernels = torch.randn(2, 3, *sides), torch.randn(2, 3, size, size)
    weight = torch.randn(2, 3, *sides)
    found = [t.requires_grad_() for t in (x, kernels)]
    true = [t.detach().double().requires_grad_() for t in (x, kernels)]
    result = plain(*true)
    assert (depthwise(*found).double() - result).abs().max().item() < 2e-6 * result.abs().max().item()
    got = torch.autograd.grad((depthwise(*found) * weight).sum(), found)
    wanted = torch.autograd.grad((plain(*true) * weight.double()).sum(), true)
    for g, w in zip(got, wanted, strict=True):
        torch.testing.assert_close(g.double(), w, rtol=1e-5, atol=2e-5 * w.abs().max().item())


def test_half_precision_has_gradients_of_its_own_type() -> None:
    torch.manual_seed(0)
    x, kernels = torch.randn(1, 2, 20, 20), torch.randn(1, 2, 13, 13)
    low = [t.bfloat16().requires_grad_() for t in (x, kernels)]
    high = [t.detach().float().requires_grad_() for t in low]
    got = torch.autograd.grad(depthwise(*low).float().square().sum(), low)
    wanted = torch.autograd.grad(depthwise(*high).square().sum(), high)
    for g, w in zip(got, wanted, strict=True):
        assert g.dtype == torch.bfloat16
        assert ((g.float() - w).norm() / w.norm()).item() < 0.02


def test_double_precision_stays_double() -> None:
    torch.manual_seed(0)
    both = torch.randn(1, 2, 20, 21).double(), torch.randn(1, 2, 13, 13).double()
    found = [t.requires_grad_() for t in both]
    result, wanted = depthwise(*found), plain(*found)
    torch.testing.assert_close(result, wanted, rtol=1e-12, atol=1e-12)
    got, true = (torch.autograd.grad(y.square().sum(), found) for y in (result, wanted))
    torch.testing.assert_close(got, true, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize(("learns", "idle"), [(0, "_correlate"), (1, "_convolve_large")])
def test_only_gradients_that_are_wanted_are_computed(
    learns: int, idle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [torch.randn(1, 2, 20, 20), torch.randn(1, 2, 13, 13)]
    both[learns].requires_grad_()
    result = depthwise(*both)
    monkeypatch.delattr(f"esc_sr.families.esc.depthwise.{idle}")
    result.sum().backward()
    assert both[learns].grad is not None and both[1 - learns].grad is None
