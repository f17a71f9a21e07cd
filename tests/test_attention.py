"""The attention backends agree with each other and with the formula."""

import importlib.util
import resource
import shutil
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from esc_sr import native
from esc_sr.network import attention
from esc_sr.network.attention import BACKENDS, attend, best_backend, position_bias
from pretend_gpu import GPU, pretended_gpu

needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="flex needs a C++ compiler")


def inputs(
    windows: int, heads: int, window: int, dim: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    qkv = torch.randn(3, windows, heads, window**2, dim, generator=generator, dtype=torch.float64)
    table = torch.randn(heads, (2 * window - 1) ** 2, generator=generator, dtype=torch.float64)
    q, k, v, table = (t.to(dtype).clone().requires_grad_() for t in (*qkv, table))
    return q, k, v, table


def test_position_bias_is_key_minus_query() -> None:
    window = 5
    table = torch.arange(2 * 81.0).view(2, 81)
    bias = position_bias(table, window)
    for query in range(25):
        for key in range(25):
            down, right = key // 5 - query // 5 + 4, key % 5 - query % 5 + 4
            assert torch.equal(bias[:, query, key], table[:, down * 9 + right])


def test_naive_is_the_formula() -> None:
    q, k, v, table = (t.detach() for t in inputs(2, 3, 3, 4, torch.float64))
    bias = position_bias(table, 3)
    out = attend(q, k, v, table, 3, "naive")
    for w in range(2):
        for h in range(3):
            scores = q[w, h] @ k[w, h].T / 2 + bias[h]
            expected = (scores.exp() / scores.exp().sum(1, keepdim=True)) @ v[w, h]
            assert (out[w, h] - expected).abs().max() < 1e-12


@pytest.mark.parametrize(("window", "dim"), [(8, 8), (16, 16), (32, 16), (5, 3)])
def test_backends_agree(window: int, dim: int) -> None:
    q, k, v, table = inputs(3, 2, window, dim)
    with torch.no_grad():
        naive = attend(q, k, v, table, window, "naive")
        for backend in ("sdpa", "auto"):
            assert (attend(q, k, v, table, window, backend) - naive).abs().max() < 1e-5


@pytest.mark.parametrize("window", [6, 32])
def test_gradients_agree(window: int) -> None:
    gradients = {}
    for backend in ("naive", "sdpa"):
        tensors = inputs(2, 2, window, 16)
        out = attend(*tensors, window, backend)
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(4))
        gradients[backend] = torch.autograd.grad((out * weights).sum(), tensors)
    for one, other in zip(*gradients.values(), strict=True):
        assert (one - other).abs().max() < 1e-4
        assert one.abs().max() > 1e-3


def test_gradient_of_sdpa_is_the_derivative() -> None:
    tensors = inputs(2, 2, 3, 4, torch.float64)
    assert torch.autograd.gradcheck(lambda q, k, v, t: attend(q, k, v, t, 3, "sdpa"), tensors)


@needs_compiler
@pytest.mark.filterwarnings("ignore")
def test_flex_agrees_on_a_window_of_32() -> None:
    q, k, v, table = (t.detach() for t in inputs(1, 2, 32, 16))
    naive = attend(q, k, v, table, 32, "naive")
    assert (attend(q, k, v, table, 32, "flex") - naive).abs().max() < 1e-5


def test_auto_on_a_cpu_is_native_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ESC_SR_NATIVE", raising=False)
    assert best_backend(torch.device("cpu")) == ("native" if native.available() else "sdpa")
    monkeypatch.setenv("ESC_SR_NATIVE", "off")
    assert best_backend(torch.device("cpu")) == "sdpa"


def test_auto_takes_what_native_does_not() -> None:
    tensors = inputs(1, 2, 3, 4, torch.float64)
    assert (attend(*tensors, 3) - attend(*tensors, 3, "naive")).abs().max() < 1e-12


@pytest.mark.skipif(not native.available(), reason="the kernels are not built")
def test_native_agrees_with_its_gradients() -> None:
    tensors = inputs(2, 2, 16, 16)
    found = []
    for backend in ("native", "naive"):
        out = attend(*tensors, 16, backend)
        found.append((out, *torch.autograd.grad(out.square().sum(), tensors)))
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() < 1e-4


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="flash9"):
        attend(*inputs(1, 1, 2, 4), 2, "flash9")
    assert BACKENDS == ("auto", "naive", "sdpa", "flex", "native")


MEMORY_PROBE = """
import resource, sys, torch
from esc_sr.network.attention import attend
torch.set_num_threads(1)
gradient = sys.argv[1] == "train"
q, k, v = (torch.randn(24, 4, 1024, 16, requires_grad=gradient) for _ in range(3))
table = torch.randn(4, 63**2, requires_grad=gradient)
attend(q[:1], k[:1], v[:1], table, 32, "sdpa")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with torch.set_grad_enabled(gradient):
    out = attend(q, k, v, table, 32, "sdpa")
if gradient:
    out.sum().backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("mode", ["inference", "train"])
@pytest.mark.skipif(not hasattr(resource, "RUSAGE_SELF"), reason="needs POSIX resource usage")
def test_sdpa_never_holds_all_scores(mode: str) -> None:
    """All scores of 24 windows with 4 heads are 384 MiB."""
    run = subprocess.run(
        [sys.executable, "-c", MEMORY_PROBE, mode], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 150


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore")  # the compiler has some
@pytest.mark.parametrize("backend", ["sdpa", "flex"])
def test_backends_agree_on_a_gpu(backend: str) -> None:
    q, k, v, table = (t.detach().cuda().requires_grad_() for t in inputs(3, 4, 32, 16))
    tensors = (q, k, v, table)
    naive, other = (attend(*tensors, 32, name) for name in ("naive", backend))
    assert (naive - other).abs().max() < 1e-3
    pairs = (torch.autograd.grad(out.square().sum(), tensors) for out in (naive, other))
    for one, two in zip(*pairs, strict=True):
        assert (one - two).abs().max() < 1e-2 * one.abs().max()


class FailsBackward(torch.autograd.Function):
    """Queries, as far as the forward goes."""

    @staticmethod
    def forward(ctx: Any, q: Tensor) -> Tensor:
        return q.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise RuntimeError("the compiler fails")


def fail(*args: Any, **kwargs: Any) -> Tensor:
    raise RuntimeError("the compiler fails")


@pytest.mark.parametrize(
    ("compiled", "learns"), [(fail, False), (fail, True), (lambda q, *a, **k: FailsBackward.apply(q), True)]
)
def test_where_the_compiler_fails_sdpa_does_the_work(
    compiled: Any, learns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "triton" or find_spec(name))
    monkeypatch.setattr(attention, "_compiled_flex", lambda: compiled)
    for kept in (attention._compiles, attention._tell):
        kept.cache_clear()
    tensors = inputs(2, 2, 8, 8)
    sdpa = attend(*tensors, 8, "sdpa")
    expected = torch.autograd.grad(sdpa.square().sum(), tensors)
    with pretended_gpu(), pytest.warns(UserWarning, match="so sdpa does the work") as warned:
        given = [t.detach().to("cuda").requires_grad_(learns) for t in tensors]
        for size in (1, 2):
            found = attend(given[0][:size], given[1][:size], given[2][:size], given[3], 8)
            assert (found.detach().cpu() - sdpa[:size]).abs().max() < 1e-6
        if learns:
            for one, two in zip(torch.autograd.grad(found.square().sum(), given), expected, strict=True):
                assert (one.cpu() - two).abs().max() < 1e-4
        assert best_backend(GPU) == ("flex" if compiled is not fail else "sdpa")
    assert len(warned) == 1
    for kept in (attention._compiles, attention._tell):
        kept.cache_clear()


def test_what_a_compiler_is_asked_once_is_no_break_in_a_graph() -> None:
    """Nobody asks a CPU; what matters is that torch.compile takes the answer for a constant."""

    def double(x: Tensor) -> Tensor:
        return 2 * x if attention._flex_works(x.device, x.dtype, (1, 1, *x.shape[2:]), True) else 3 * x

    assert torch.compile(double, backend="eager", fullgraph=True)(torch.ones(1, 1, 2, 2)).sum() == 12
