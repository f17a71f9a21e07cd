"""At levels that have products of bfloat16, kernels round factors of products for bfloat16, and only then."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import test_native as attention
import test_native_convolution as convolution
from esc_sr import native
from native_levels import ROUNDING, needs_rounding
from test_native_convolution import KINDS, Function, run

pytestmark = [pytest.mark.usefixtures("one_thread"), needs_rounding]

SIZES = [(1, 1), (3, 2), (7, 16), (33, 31), (40, 98), (35, 195)]


@pytest.fixture(autouse=True, params=ROUNDING)
def rounding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ESC_SR_NATIVE", request.param)
    return str(request.param)


def rounded(inputs: Sequence[Tensor]) -> list[Tensor]:
    """The first of them, a map, in bfloat16."""
    return [inputs[0].bfloat16(), *inputs[1:]]


def assert_near(
    found: Sequence[Tensor], wanted: Sequence[Tensor], bound: float = 0.01, floor: float = 0
) -> None:
    for number, (one, two) in enumerate(zip(found, wanted, strict=True)):
        assert one.shape == two.shape
        assert (one - two).norm() <= bound * two.norm().clamp(min=floor), f"{tuple(one.shape)}, {number}"


def assert_agrees(kernels: Function, formula: Function, inputs: Sequence[Tensor]) -> None:
    inputs = rounded(inputs)
    added = inputs[0][:, 0].numel()  # pixels, whose sum may be nearly 0
    assert_near(run(kernels, inputs), run(formula, [t.double() for t in inputs]), floor=added**0.5)


@pytest.mark.parametrize(("c", "k"), [(16, 13), (8, 9), (5, 3), (1, 1), (48, 17), (3, 33)])
def test_large_conv_agrees(c: int, k: int) -> None:
    for h, w in SIZES:
        inputs = convolution.large_inputs(2, c, h, w, k)
        assert_agrees(convolution.large_by_kernels, convolution.large_by_torch, inputs)


@pytest.mark.parametrize(
    ("c", "hidden", "out"), [(64, 80, 80), (16, 20, 64), (5, 7, 3), (1, 1, 1), (48, 96, 50), (192, 240, 240)]
)
def test_feed_forward_agrees(c: int, hidden: int, out: int) -> None:
    for h, w in SIZES:
        inputs = convolution.feed_forward_inputs(2, c, hidden, out, h, w)
        assert_agrees(convolution.feed_forward_by_kernels, convolution.feed_forward_by_torch, inputs)


@pytest.mark.parametrize(("c", "out"), [(64, 192), (16, 64), (5, 3), (1, 1), (48, 50), (192, 576)])
def test_pointwise_agrees(c: int, out: int) -> None:
    for h, w in SIZES:
        inputs = convolution.pointwise_inputs(2, c, out, h, w)
        for given in (inputs, inputs[:2]):
            assert_agrees(convolution.pointwise_by_kernels, convolution.pointwise_by_torch, given)


@pytest.mark.parametrize("window", [8, 16, 24, 32, 48])
def test_attention_agrees(window: int) -> None:
    for dim in (1, 5, 8, 16, 29, 30, 48) if window == 16 else (16,):
        q, k, v, table, grad = attention.inputs(2, 2, window, dim)
        q, k, v, grad = (t.bfloat16() for t in (q, k, v, grad))
        half = q, k, v, table, grad
        wanted = attention.run(attention.cast(half, torch.float64), window, formula=True)
        assert_near(attention.run(half, window), wanted)


def test_large_scores_neither_overflow_nor_vanish() -> None:
    q, k, v, table, grad = attention.inputs(2, 2, 16, 16, spread=40)
    q, k, v, grad = (t.bfloat16() for t in (q, k, v, grad))
    for shift in (0, 1000):
        half = q, k, v, table + shift, grad
        found = attention.run(half, 16)
        wanted = attention.run(attention.cast(half, torch.float64), 16, formula=True)
        assert_near(found, wanted, bound=0.1)


def test_attention_reads_any_layout() -> None:
    q, k, v, table, grad = attention.cast(attention.inputs(2, 3, 16, 20), torch.bfloat16)
    expected = attention.run((q, k, v, table, grad), 16)
    q, k, v = (t.mT.contiguous().mT for t in (q, k, v))
    for one, two in zip(attention.run((q, k, v, table, grad.expand_as(grad)), 16), expected, strict=True):
        assert torch.equal(one, two)


def test_attention_within_a_map() -> None:
    random = torch.Generator().manual_seed(1)
    qkv = torch.randn(2, 3 * 2 * 16, 32, 48, generator=random).bfloat16()
    table = torch.randn(2, 31**2, generator=random)
    found = native.attend_windows(qkv.contiguous(memory_format=torch.channels_last), table, 16)
    assert_near([found], [native.attend_windows(qkv.float(), table, 16)])
    assert torch.equal(found, native.attend_windows(qkv, table, 16))


@pytest.mark.parametrize(("function", "inputs"), KINDS)
def test_any_layout_in_memory(function: Function, inputs: list[Tensor]) -> None:
    x, *rest = rounded(inputs)
    expected = run(function, [x, *rest])
    wide = torch.cat((x, x), 1)[:, 8:24].roll(8, 1)
    for seen in (x.contiguous(memory_format=torch.channels_last), x.mT.contiguous().mT, wide):
        for one, two in zip(run(function, [seen, *rest]), expected, strict=True):
            assert torch.equal(one, two)
    assert all(y.dtype is torch.bfloat16 for y in function(x, *rest))


@pytest.mark.parametrize(("function", "inputs"), KINDS)
def test_same_bits_every_time_and_in_a_part(function: Function, inputs: list[Tensor]) -> None:
    x, *rest = inputs = rounded(inputs)
    expected = run(function, inputs)
    results = len(function(*inputs))
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        found = run(function, inputs)
        assert all(map(torch.equal, run(function, inputs), found))
        assert all(map(torch.equal, found[: results + 1], expected))
        assert_near(found[results + 1 :], expected[results + 1 :])
    for whole, part in zip(function(*inputs), function(x[:, :, 11:31], *rest), strict=True):
        assert torch.equal(whole[:, :, 17:25], part[:, :, 6:14])


@torch.no_grad()
def test_a_layer_norm_before_and_a_map_to_add_to() -> None:
    x, weight, bias = convolution.pointwise_inputs(2, 48, 24, 35, 70)
    x = x.bfloat16()
    onto = torch.randn(2, 24, 35, 70).contiguous(memory_format=torch.channels_last)
    wanted = onto + native.pointwise(x.float(), weight, bias)
    assert_near([native.pointwise(x, weight, bias, onto=onto.clone())], [wanted])
    half = onto.bfloat16()
    assert native.pointwise(x, weight, bias, onto=half) is half
    assert_near([half.float()], [wanted])
    for other in (onto.bfloat16().contiguous(), onto.half()):
        assert not native.takes_onto(x, other)
        with pytest.raises(ValueError, match="channels side by side"):
            native.pointwise(x, weight, bias, onto=other)
    _, *layers = convolution.feed_forward_inputs(2, 48, 20, 24, 35, 70)
    found = [native.pointwise(x, weight, bias, epsilon=1e-6), *native.feed_forward(x, layers, 8, 1e-6)]
    x = x.float()
    exact = [native.pointwise(x, weight, bias, epsilon=1e-6), *native.feed_forward(x, layers, 8, 1e-6)]
    assert_near(found, exact)


@pytest.mark.parametrize(("function", "inputs"), KINDS)
def test_float32_has_the_bits_of_avx512(
    function: Function, inputs: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    half = rounded(inputs)
    exact, rough = run(function, inputs), run(function, half)
    monkeypatch.setenv("ESC_SR_NATIVE", "avx512")
    assert all(map(torch.equal, run(function, inputs), exact))
    assert not all(map(torch.equal, run(function, half), rough))


def test_attention_in_float32_has_the_bits_of_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = attention.inputs(2, 2, 16, 16)
    exact, rough = attention.run(tensors, 16), attention.run(attention.cast(tensors, torch.bfloat16), 16)
    monkeypatch.setenv("ESC_SR_NATIVE", "avx512")
    assert all(map(torch.equal, attention.run(tensors, 16), exact))
    assert not torch.equal(attention.run(attention.cast(tensors, torch.bfloat16), 16)[0], rough[0])


def test_not_a_number_stays_one() -> None:
    tensors = attention.cast(attention.inputs(1, 2, 16, 8), torch.bfloat16)
    tensors[0][0, 1, 7, 3] = float("nan")
    out, grad_q, grad_k, _, grad_table = attention.run(tensors, 16)
    assert out[0, 1, 7].isnan().all()
    assert out.isnan().sum() == 8
    assert grad_q[0, 1, 7].isnan().all()
    assert grad_k[0, 1].isnan().all()
    assert grad_table[1].isnan().any()
    y, *layers = convolution.feed_forward_inputs(1, 4, 6, 4, 20, 20)
    y[0, 1, 9, 9] = float("nan")
    first, rest = native.feed_forward(y.bfloat16(), layers, cut=1)
    assert torch.cat((first, rest), 1).isnan().sum() == 4 * 9
