"""The compiled attention agrees with the formula at every level that this processor has."""

import functools

import pytest
import torch
from torch import Tensor

from esc_sr import native
from esc_sr.errors import DeviceError, UsageError
from esc_sr.families.esc import ESC
from esc_sr.network.attention import attend
from native_levels import LEVELS, needs_library
from test_network import VARIANTS, make

pytestmark = pytest.mark.usefixtures("one_thread")


Tensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def inputs(windows: int, heads: int, window: int, dim: int, spread: int = 1) -> Tensors:
    """q, k, v, bias table and the output's gradient."""
    random = torch.Generator().manual_seed(window * 100 + dim)
    q, k, v, grad = torch.randn(4, windows, heads, window**2, dim, generator=random)
    table = torch.randn(heads, (2 * window - 1) ** 2, generator=random)
    return q * spread, k, v, table * spread, grad


def cast(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    q, k, v, table, grad = tensors
    return q.to(dtype), k.to(dtype), v.to(dtype), table.to(dtype), grad.to(dtype)


def run(tensors: Tensors, window: int, formula: bool = False) -> list[Tensor]:
    """Output and the gradients of q, k, v and table, by the kernels or by the formula."""
    q, k, v, table = leaves = [t.detach().requires_grad_() for t in tensors[:4]]
    out = attend(q, k, v, table, window, "naive") if formula else native.attend(q, k, v, table, window)
    return [out.detach(), *torch.autograd.grad(out, leaves, tensors[4])]


@functools.cache
def formula(*sizes: int) -> list[Tensor]:
    """What `run` should give for the inputs of these sizes."""
    return run(cast(inputs(*sizes), torch.float64), sizes[2], formula=True)


def assert_agrees(*sizes: int, tolerance: float = 1e-5) -> None:
    for name, one, two in zip("oqkvt", run(inputs(*sizes), sizes[2]), formula(*sizes), strict=True):
        error, size = (one - two).abs().max(), two.abs().max().clamp(min=1)
        assert error < tolerance * size, f"{sizes}, {name}: {error:.2e} of {size:.2e}"


@pytest.mark.parametrize("window", [1, 2, 3, 5, 7, 8, 16, 17])
def test_agrees_with_the_formula(level: str, window: int) -> None:
    for dim in (1, 3, 8, 15, 16, 20, 32, 48):
        assert_agrees(2, 3, window, dim)


@pytest.mark.parametrize(("window", "dim"), [(24, 16), (32, 16), (32, 8), (48, 16)])
def test_agrees_with_the_formula_in_large_windows(level: str, window: int, dim: int) -> None:
    assert_agrees(1, 1, window, dim)


@pytest.mark.parametrize("window", [5, 16])
def test_large_scores_neither_overflow_nor_vanish(level: str, window: int) -> None:
    tensors = inputs(2, 2, window, 16, spread=40)
    scores = tensors[0] @ tensors[1].mT / 4
    assert scores.max() > 80
    assert scores.min() < -80
    assert_agrees(2, 2, window, 16, 40, tolerance=5e-5)
    tensors[3].add_(1000)
    found, expected = run(tensors, window), run(cast(tensors, torch.float64), window, formula=True)
    assert (found[0] - expected[0]).abs().max() < 2e-3  # a score of 1000 has steps of 6e-5


@needs_library
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float(dtype: torch.dtype) -> None:
    q, k, v, table, grad = tensors = cast(inputs(2, 2, 8, 16), dtype)
    found, expected = run(tensors, 8), run(cast(tensors, torch.float32), 8)
    for one, two in zip(found, expected, strict=True):
        assert one.dtype is dtype
        assert torch.equal(one, two.to(dtype))
    assert run((q, k, v, table.float(), grad), 8)[-1].dtype is torch.float32


@needs_library
def test_same_bits_every_time() -> None:
    tensors = inputs(5, 3, 7, 16)
    outputs = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        first = run(tensors, 7)
        assert all(all(map(torch.equal, run(tensors, 7), first)) for _ in range(5))
        outputs.append(first)
    for one, two, three in zip(*(found[:-1] for found in outputs), strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    for number, found in zip((1, 2, 3), outputs, strict=True):
        assert torch.allclose(found[-1], outputs[0][-1], atol=1e-5), number


@needs_library
def test_more_threads_than_work() -> None:
    torch.set_num_threads(3)
    assert_agrees(1, 1, 5, 8)


@needs_library
def test_no_windows_at_all() -> None:
    out, *grads = run(inputs(0, 2, 4, 8), 4)
    assert out.shape == (0, 2, 16, 8)
    assert grads[-1].shape == (2, 49)
    assert not grads[-1].any()


def test_any_layout_in_memory(level: str) -> None:
    q, k, v, table, grad = inputs(2, 3, 8, 20)
    expected = run((q, k, v, table, grad), 8)
    q2, k2, v2 = torch.stack([q, k, v]).mT.contiguous().mT  # d before n, as a convolution leaves them
    parts, across = torch.cat([q, k], 3), torch.cat([v, k], 2)
    layouts: tuple[Tensors, ...] = (
        (q2, k2, v2, table, grad),
        (
            q.transpose(0, 1).contiguous().transpose(0, 1),
            k,
            v2,
            table.T.contiguous().T,
            grad.mT.contiguous().mT,
        ),
        (parts[..., :20], parts[..., 20:], across[:, :, :64], table, grad),
    )
    for layout in layouts:
        assert all(map(torch.equal, run(layout, 8), expected))
    ones = torch.ones(()).expand_as(grad)
    assert all(map(torch.equal, run((q, k, v, table, ones), 8), run((q, k, v, table, ones.clone()), 8)))
    with torch.no_grad():
        assert native.attend(q2, k2, v2, table, 8).stride() == q2.stride()


@needs_library
def test_not_a_number_stays_one(level: str) -> None:
    tensors = inputs(1, 2, 5, 8)
    tensors[0][0, 1, 7, 3] = float("nan")
    out, grad_q, grad_k, _, grad_table = run(tensors, 5)
    assert out[0, 1, 7].isnan().all()
    assert out.isnan().sum() == 8
    assert grad_q[0, 1, 7].isnan().all()
    assert grad_k[0, 1].isnan().all()
    assert grad_table[1].isnan().any()


@needs_library
def test_inference_keeps_nothing() -> None:
    q, k, v, table, _ = (t.requires_grad_() for t in inputs(1, 1, 4, 8))
    with torch.no_grad():
        out = native.attend(q, k, v, table, 4)
    assert out.grad_fn is None
    assert torch.equal(out, native.attend(q, k, v, table, 4).detach())


def of_a_network(network: ESC, lr: Tensor) -> list[Tensor]:
    """What it makes of a picture, and the gradients of its parameters."""
    with torch.no_grad():
        found = network(lr)
    return [found, *torch.autograd.grad(network(lr).square().mean(), tuple(network.parameters()))]


@needs_library
@pytest.mark.parametrize("name", ["esc", "fp"])
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_nothing_hangs_on_the_default_type(default: torch.dtype, name: str) -> None:
    network, lr = make(VARIANTS[name]), torch.rand(1, 3, 19, 17)
    wanted = of_a_network(network, lr)
    torch.set_default_dtype(default)
    try:
        found = of_a_network(network, lr)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, found, wanted))


@needs_library
def test_takes() -> None:
    q = torch.zeros(1, 1, 4, 2)
    assert all(native.takes(q.to(dtype)) for dtype in (torch.float32, torch.bfloat16, torch.float16))
    assert not native.takes(q.double())
    assert not native.takes(q.to("meta"))


@needs_library
def test_wrong_arguments_are_refused() -> None:
    q, k, v, table, _ = inputs(2, 2, 4, 8)
    for wrong in (
        (q[0], k, v, table, 4),
        (q, k[:1], v, table, 4),
        (q, k, v[..., :4], table, 4),
        (q, k, v, table, 5),
        (q, k, v, table[:1], 4),
        (q, k, v, table[:, 1:], 4),
        (q[..., :0], k[..., :0], v[..., :0], table, 4),
        (q.double(), k, v, table, 4),
        (q, k, v, table.to("meta"), 4),
    ):
        with pytest.raises(ValueError, match="pass "):
            native.attend(*wrong)


def test_the_variable_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESC_SR_NATIVE", "off")
    assert native.level() is None
    assert not native.available()
    assert native.describe() == "off, by ESC_SR_NATIVE"
    assert not native.takes(torch.zeros(1, 1, 1, 1))
    with pytest.raises(DeviceError, match="off"):
        native.attend(*inputs(1, 1, 1, 1)[:4], 1)
    monkeypatch.setenv("ESC_SR_NATIVE", "sse9")
    with pytest.raises(UsageError, match="ESC_SR_NATIVE=sse9.*auto, off, generic"):
        native.level()


@needs_library
def test_a_level_is_forced_down(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LEVELS:
        monkeypatch.setenv("ESC_SR_NATIVE", name)
        assert native.level() == native.describe() == name
    for value in ("", "auto"):
        monkeypatch.setenv("ESC_SR_NATIVE", value)
        assert native.level() == LEVELS[-1]
