"""The selective scan, against its definition."""

import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from esc_sr.families.parts.scan import selective_scan
from pretend_gpu import GPU, pretended_gpu


def by_definition(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> Tensor:
    h, found = u.new_zeros(*u.shape[:2], a.shape[1]), []
    for t in range(u.shape[2]):
        taken = (dt[:, :, t] * u[:, :, t])[:, :, None] * b[:, None, :, t]
        h = (dt[:, :, t, None] * a).exp() * h + taken
        found.append((h * c[:, None, :, t]).sum(2) + skip * u[:, :, t])
    return torch.stack(found, 2)


def inputs(length: int, batch: int = 2, dim: int = 6, state: int = 3) -> list[Tensor]:
    torch.manual_seed(0)
    u, dt = torch.randn(batch, dim, length), F.softplus(torch.randn(batch, dim, length) - 3)
    b, c = torch.randn(2, batch, state, length)
    return [u, dt, -torch.rand(dim, state) * 9, b, c, torch.randn(dim)]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 17, 64, 100, 997])
def test_it_is_the_recurrence(length: int) -> None:
    given = inputs(length)
    found = selective_scan(*given)
    torch.testing.assert_close(found, by_definition(*given), atol=1e-5, rtol=1e-5)
    assert found.shape == given[0].shape


@pytest.mark.parametrize("length", [1, 5, 50])
def test_gradients_are_those_of_the_recurrence(length: int) -> None:
    ours, theirs = ([t.clone().requires_grad_() for t in inputs(length)] for _ in range(2))
    weights = torch.randn(2, 6, length)
    (selective_scan(*ours) * weights).sum().backward()
    (by_definition(*theirs) * weights).sum().backward()
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, reference.grad, atol=1e-4, rtol=1e-4)


def test_it_is_float32_under_autocast() -> None:
    given = inputs(40)
    given[:-1] = [t.bfloat16() for t in given[:-1]]  # but `skip`, which is a parameter
    with torch.autocast("cpu", torch.bfloat16):
        found = selective_scan(*given)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, by_definition(*(t.float() for t in given)))


def test_mamba_ssm_computes_on_a_gpu_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    given, asked = inputs(30), list[str]()

    def selective_scan_fn(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> Tensor:
        assert b.shape == c.shape == (2, 1, 3, 30) and all(t.is_contiguous() for t in (u, dt, b, c))
        asked.append(u.device.type)
        return by_definition(u, dt, a, b[:, 0], c[:, 0], skip)

    modules = [ModuleType(name) for name in ("mamba_ssm", "mamba_ssm.ops")]
    kernels = ModuleType("mamba_ssm.ops.selective_scan_interface")
    monkeypatch.setattr(kernels, "selective_scan_fn", selective_scan_fn, raising=False)
    for module in (*modules, kernels):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    expected = selective_scan(*given)
    assert asked == []
    with pretended_gpu():
        found = selective_scan(*(t.to(GPU) for t in given)).cpu()
    assert asked == ["cuda"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
