"""The compiled convolutions agree with torch's at every level that this processor has."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from esc_sr import native
from esc_sr.errors import DeviceError
from esc_sr.families.esc.depthwise import depthwise
from esc_sr.families.esc.kernels import symmetrize
from native_levels import needs_library

pytestmark = pytest.mark.usefixtures("one_thread")


Function = Callable[..., Sequence[Tensor]]


def large_inputs(b: int, c: int, h: int, w: int, k: int) -> list[Tensor]:
    """x, kernel and dynamic kernels."""
    random = torch.Generator().manual_seed(100 * h + w)
    shapes = ((b, c, h, w), (c, c, k, k), (b, c, 3, 3))
    x, kernel, dynamic = (torch.randn(shape, generator=random) for shape in shapes)
    return [x, symmetrize(kernel) / c**0.5, dynamic]


def large_by_kernels(x: Tensor, kernel: Tensor, dynamic: Tensor) -> list[Tensor]:
    return [native.large_conv(x, symmetrize(kernel), dynamic)]


def large_by_torch(x: Tensor, kernel: Tensor, dynamic: Tensor) -> list[Tensor]:
    return [F.conv2d(x, symmetrize(kernel), padding=kernel.shape[-1] // 2) + depthwise(x, dynamic)]


def feed_forward_inputs(b: int, c: int, hidden: int, out: int, h: int, w: int) -> list[Tensor]:
    """x and the parameters of the three layers."""
    random = torch.Generator().manual_seed(100 * h + w)
    weights = ((hidden, c, 1, 1), (hidden, 1, 3, 3), (out, hidden, 1, 1))
    layers = [torch.randn(shape, generator=random) for size in weights for shape in (size, size[:1])]
    for weight in layers[::2]:
        weight /= weight[0].numel() ** 0.5
    return [torch.randn(b, c, h, w, generator=random), *layers]


def feed_forward_by_torch(x: Tensor, *layers: Tensor) -> list[Tensor]:
    expand, expand_bias, dw, dw_bias, project, project_bias = layers
    h = F.gelu(F.conv2d(x, expand, expand_bias))
    h = F.gelu(F.conv2d(h, dw, dw_bias, padding=1, groups=len(dw))) + h
    y = F.conv2d(h, project, project_bias)
    return [y[:, : len(project) // 4], y[:, len(project) // 4 :]]


def feed_forward_by_kernels(x: Tensor, *layers: Tensor) -> Sequence[Tensor]:
    return native.feed_forward(x, layers, cut=len(layers[-1]) // 4)


def run(function: Function, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The results, and the gradients of all inputs."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    results = function(*leaves)
    random = torch.Generator().manual_seed(1)
    weights = [torch.randn(y.shape, generator=random).to(y.dtype) for y in results]
    return [*(y.detach() for y in results), *torch.autograd.grad(results, leaves, weights)]


def assert_agrees(kernels: Function, formula: Function, inputs: Sequence[Tensor]) -> None:
    found, wanted = run(kernels, inputs), run(formula, [t.double() for t in inputs])
    for number, (one, two) in enumerate(zip(found, wanted, strict=True)):
        assert one.shape == two.shape
        if not two.numel():
            continue
        added = 1 if two.shape[2:] == inputs[0].shape[2:] else inputs[0][:, 0].numel()  # pixels in one number
        error, size = (one - two).abs().max(), two.abs().max().clamp(min=added**0.5)
        assert error < 1e-5 * size, f"{[tuple(t.shape) for t in inputs]}, {number}: {error:.2e} of {size:.2e}"


@pytest.mark.parametrize(("c", "k"), [(16, 13), (8, 9), (5, 3), (1, 1), (48, 17), (3, 33)])
def test_large_conv_agrees(level: str, c: int, k: int) -> None:
    for h, w in ((1, 1), (2, 7), (13, 5), (17, 33), (40, 98)):
        assert_agrees(large_by_kernels, large_by_torch, large_inputs(2, c, h, w, k))


def depthwise_inputs(b: int, c: int, h: int, w: int, k: int) -> tuple[Tensor, Tensor]:
    """x and kernels."""
    random = torch.Generator().manual_seed(100 * h + w)
    return torch.randn(b, c, h, w, generator=random), torch.randn(b, c, k, k, generator=random)


def depthwise_by_torch(x: Tensor, kernels: Tensor) -> Tensor:
    planes, padding = zip(x, kernels, strict=True), kernels.shape[-1] // 2
    return torch.stack([F.conv2d(p, k[:, None], padding=padding, groups=len(k)) for p, k in planes])


@pytest.mark.parametrize(("c", "k"), [(16, 13), (5, 3), (1, 1), (48, 17), (3, 33)])
def test_depthwise_conv_agrees(level: str, c: int, k: int) -> None:
    for h, w in ((1, 1), (2, 7), (13, 5), (17, 33), (40, 98), (35, 195)):
        x, kernels = depthwise_inputs(2, c, h, w, k)
        wanted = depthwise_by_torch(x.double(), kernels.double())
        for given in (x, x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().mT):
            found = native.depthwise_conv(given, kernels)
            assert (found - wanted).abs().max() < 1e-6 * k * wanted.abs().max().clamp(min=1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_depthwise_conv_of_half_precision(level: str, dtype: torch.dtype) -> None:
    x, kernels = (t.to(dtype) for t in depthwise_inputs(1, 20, 9, 70, 13))
    found, wanted = native.depthwise_conv(x, kernels), depthwise_by_torch(x.double(), kernels.double())
    assert found.dtype == dtype
    assert (found.double() - wanted).abs().max() < 2**-8 * wanted.abs().max()


@pytest.mark.parametrize(
    ("c", "hidden", "out"), [(64, 80, 80), (16, 20, 64), (5, 7, 3), (1, 1, 1), (48, 96, 50)]
)
def test_feed_forward_agrees(level: str, c: int, hidden: int, out: int) -> None:
    for h, w in ((1, 1), (3, 2), (7, 16), (33, 31), (35, 195)):
        assert_agrees(
            feed_forward_by_kernels, feed_forward_by_torch, feed_forward_inputs(2, c, hidden, out, h, w)
        )


def test_far_from_zero(level: str) -> None:
    """GELU of numbers up to a thousand, whose exponentials are zeros and denormals."""
    x, *layers = feed_forward_inputs(1, 8, 16, 8, 9, 40)
    x *= torch.logspace(-3, 3, 40)
    found, wanted = (
        feed_forward_by_kernels(x, *layers),
        feed_forward_by_torch(x.double(), *(t.double() for t in layers)),
    )
    for one, two in zip(found, wanted, strict=True):
        assert (one - two).abs().max() < 1e-5 * two.abs().max()
        small = two[..., :10]
        assert (one[..., :10] - small).abs().max() < 1e-5 * small.abs().max().clamp(min=1)


def pointwise_inputs(b: int, c: int, out: int, h: int, w: int) -> list[Tensor]:
    """x, weight and bias."""
    random = torch.Generator().manual_seed(100 * h + w)
    return [torch.randn(shape, generator=random) for shape in ((b, c, h, w), (out, c, 1, 1), (out,))]


def pointwise_by_kernels(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> list[Tensor]:
    return [native.pointwise(x, weight, bias)]


def pointwise_by_torch(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> list[Tensor]:
    return [F.conv2d(x, weight, bias)]


@pytest.mark.parametrize(("c", "out"), [(64, 192), (16, 64), (5, 3), (1, 1), (48, 50)])
def test_pointwise_agrees(level: str, c: int, out: int) -> None:
    for h, w in ((1, 1), (3, 2), (7, 16), (35, 195)):
        inputs = pointwise_inputs(2, c, out, h, w)
        assert_agrees(pointwise_by_kernels, pointwise_by_torch, inputs)
        assert_agrees(pointwise_by_kernels, pointwise_by_torch, inputs[:2])


@pytest.mark.parametrize(("c", "out"), [(64, 64), (16, 48), (5, 3), (1, 1), (48, 50)])
@torch.no_grad()
def test_3x3_agrees(level: str, c: int, out: int) -> None:
    epsilon = 1e-6
    for h, w in ((1, 1), (3, 2), (7, 16), (33, 65), (35, 195)):
        random = torch.Generator().manual_seed(100 * h + w)
        shapes = ((2, c, h, w), (out, c, 3, 3), (out,), (c,), (c,))
        x, weight, bias, gain, shift = (torch.randn(shape, generator=random) for shape in shapes)
        weight /= 3 * c**0.5
        for given in (x, x.contiguous(memory_format=torch.channels_last), x.expand(2, c, h, w)[1:]):
            wanted = F.conv2d(given.double(), weight.double(), padding=1)
            assert (native.conv3x3(given, weight) - wanted).abs().max() < 1e-5
            wanted += bias.view(-1, 1, 1)
            assert (native.conv3x3(given, weight, bias) - wanted).abs().max() < 1e-5
            norm = F.layer_norm(given.permute(0, 2, 3, 1), (c,), gain, shift, epsilon).permute(0, 3, 1, 2)
            wanted = F.conv2d(norm.double(), weight.double(), bias.double(), padding=1)
            assert (
                native.conv3x3(given, weight, bias, norm=(gain, shift, epsilon)) - wanted
            ).abs().max() < 1e-5


def test_3x3_refuses() -> None:
    x, weight = torch.randn(1, 4, 5, 5), torch.randn(6, 4, 3, 3)
    for wrong in (weight[:, :3], weight[..., :2], weight[0]):
        with pytest.raises(ValueError, match="pass"):
            native.conv3x3(x, wrong)
    with pytest.raises(ValueError, match="pass"):
        native.conv3x3(x, weight, torch.zeros(5))
    with pytest.raises(ValueError, match="no_grad"):
        native.conv3x3(x, weight.requires_grad_())


@pytest.mark.parametrize("c", [64, 48, 5, 1])
@torch.no_grad()
def test_a_layer_norm_before(level: str, c: int) -> None:
    epsilon = 1e-6
    for h, w in ((1, 1), (7, 16), (35, 70)):
        x, weight, bias = pointwise_inputs(2, c, 24, h, w)
        x[0] += 10
        norm = F.layer_norm(x.permute(0, 2, 3, 1), (c,), eps=epsilon).permute(0, 3, 1, 2)
        _, *layers = feed_forward_inputs(2, c, 20, 24, h, w)
        found = [native.pointwise(x, weight, bias, epsilon=epsilon)]
        found += native.feed_forward(x, layers, 8, epsilon)
        wanted = [native.pointwise(norm, weight, bias), *native.feed_forward(norm, layers, 8)]
        for one, two in zip(found, wanted, strict=True):
            assert (one - two).abs().max() <= 2e-5 * two.abs().max()


@pytest.mark.parametrize(("c", "out"), [(16, 64), (5, 3)])
@torch.no_grad()
def test_pointwise_adds_onto_rows_of_a_map(level: str, c: int, out: int) -> None:
    for bias in (True, False):
        x, *layers = pointwise_inputs(2, c, out, 35, 70)
        layers = layers if bias else layers[:1]
        whole = torch.randn(2, out, 50, 70).contiguous(memory_format=torch.channels_last)
        wanted = whole.clone()
        wanted[:, :, 9:44] += native.pointwise(x, *layers)
        rows = whole[:, :, 9:44]
        assert native.pointwise(x, *layers, onto=rows) is rows
        assert (whole - wanted).abs().max() <= 1e-6 * wanted.abs().max()
        for others in (slice(9), slice(44, None)):
            assert torch.equal(whole[:, :, others], wanted[:, :, others])


KINDS = [
    (large_by_kernels, large_inputs(3, 16, 40, 70, 13)),
    (feed_forward_by_kernels, feed_forward_inputs(3, 16, 20, 24, 40, 70)),
    (pointwise_by_kernels, pointwise_inputs(3, 16, 24, 40, 70)),
]


@pytest.mark.parametrize(("function", "inputs"), KINDS)
def test_any_layout_in_memory(level: str, function: Function, inputs: list[Tensor]) -> None:
    x, *rest = inputs
    expected = run(function, inputs)
    wide = torch.cat((x, x), 1)[:, 8:24].roll(8, 1)
    for seen in (x.contiguous(memory_format=torch.channels_last), x.mT.contiguous().mT, wide):
        for one, two in zip(run(function, [seen, *rest]), expected, strict=True):
            assert torch.equal(one, two)
    last = function(x.contiguous(memory_format=torch.channels_last), *rest)
    assert all(y.is_contiguous(memory_format=torch.channels_last) for y in last)
    ones = [torch.ones(()).expand(y.shape) for y in function(*inputs)]  # gradients that lie in one place
    leaves = [t.detach().requires_grad_() for t in inputs]
    spread = torch.autograd.grad(function(*leaves), leaves, ones)
    whole = torch.autograd.grad(function(*leaves), leaves, [t.clone() for t in ones])
    assert all(map(torch.equal, spread, whole))


@needs_library
@pytest.mark.parametrize(("function", "inputs"), KINDS)
def test_same_bits_every_time(function: Function, inputs: list[Tensor]) -> None:
    outputs = []
    for number in (1, 2, 3, 4):
        torch.set_num_threads(number)
        outputs.append(run(function, inputs))
        assert all(map(torch.equal, run(function, inputs), outputs[-1]))
    results = len(function(*inputs))
    for found in outputs[1:]:
        for one, two in zip(found[: results + 1], outputs[0], strict=False):  # results and the gradient of x
            assert torch.equal(one, two)
        for one, two in zip(found, outputs[0], strict=True):
            assert torch.allclose(one, two, rtol=1e-4, atol=1e-3)


@needs_library
@pytest.mark.parametrize(("function", "inputs"), KINDS)
def test_rows_of_a_picture_are_the_same_in_a_part(function: Function, inputs: list[Tensor]) -> None:
    """What bands of rows rely on: bit for bit the same result, wherever the picture begins."""
    x, *rest = inputs
    for whole, part in zip(function(x, *rest), function(x[:, :, 11:31], *rest), strict=True):
        assert torch.equal(whole[:, :, 17:25], part[:, :, 6:14])


@needs_library
@pytest.mark.parametrize(("function", "inputs"), KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float(
    function: Function, inputs: list[Tensor], dtype: torch.dtype
) -> None:
    half = [t.to(dtype) for t in inputs]
    with torch.no_grad():
        found, wanted = function(*half), function(*(t.float() for t in half))
    for one, two in zip(found, wanted, strict=True):
        assert one.dtype is dtype
        assert (one.float() - two).abs().max() <= 2**-7 * two.abs().max()
    assert all(grad.dtype is dtype for grad in run(function, half))


@needs_library
def test_the_gradient_of_a_large_kernel_is_symmetric() -> None:
    x, kernel, dynamic = large_inputs(2, 4, 20, 20, 9)
    kernel.requires_grad_()
    (grad,) = torch.autograd.grad(native.large_conv(x, kernel, dynamic).square().sum(), kernel)
    assert torch.allclose(grad, symmetrize(grad), rtol=1e-5)
    assert grad.std() > 0


@needs_library
def test_no_pictures_at_all() -> None:
    x, kernel, dynamic = large_inputs(0, 4, 5, 5, 3)
    assert native.large_conv(x, kernel, dynamic).shape == (0, 4, 5, 5)
    assert native.depthwise_conv(x, dynamic).shape == (0, 4, 5, 5)


@needs_library
def test_not_a_number_stays_one(level: str) -> None:
    x, kernel, dynamic = large_inputs(1, 4, 20, 20, 5)
    x[0, 1, 9, 9] = float("nan")
    assert native.large_conv(x, kernel, dynamic)[0].isnan().sum() == 4 * 25
    y, *layers = feed_forward_inputs(1, 4, 6, 4, 20, 20)
    y[0, 1, 9, 9] = float("nan")
    first, rest = native.feed_forward(y, layers, cut=1)
    assert torch.cat((first, rest), 1).isnan().sum() == 4 * 9


@needs_library
def test_wrong_arguments_are_refused() -> None:
    x, kernel, dynamic = large_inputs(1, 4, 6, 6, 5)
    for arguments in (
        (x[0], kernel, dynamic),
        (x, kernel[:3], dynamic),
        (x, kernel[..., 1:, 1:], dynamic),
        (x, kernel, dynamic[:, :2]),
        (x, torch.zeros(4, 4, 35, 35), dynamic),
        (x.double(), kernel, dynamic),
        (x, kernel.to("meta"), dynamic),
    ):
        with pytest.raises(ValueError, match="pass "):
            native.large_conv(*arguments)
    for own in (
        dynamic[0],
        dynamic[:, 1:],
        dynamic[..., 1:, 1:],
        torch.zeros(1, 4, 35, 35),
        dynamic.double(),
    ):
        with pytest.raises(ValueError, match="pass "):
            native.depthwise_conv(x, own)
    with pytest.raises(ValueError, match="no gradients"):
        native.depthwise_conv(x, dynamic.clone().requires_grad_())
    x, weight, bias = pointwise_inputs(1, 4, 6, 5, 5)
    for wrong in (
        (x[0], weight, bias),
        (x, weight[:, 1:], bias),
        (x, weight, bias[1:]),
        (x, weight, bias.double()),
    ):
        with pytest.raises(ValueError, match="pass "):
            native.pointwise(*wrong)
    for onto in (torch.zeros(1, 6, 5, 4), torch.zeros(1, 6, 5, 5).half()):
        with pytest.raises(ValueError, match="pass "):
            native.pointwise(x, weight, bias, onto=onto)
    recorded = weight.clone().requires_grad_()
    with pytest.raises(ValueError, match="no gradients"):
        native.pointwise(x, recorded, bias, epsilon=1e-6)
    with pytest.raises(ValueError, match="no gradients"):
        native.pointwise(x, recorded, bias, onto=torch.zeros(1, 6, 5, 5))
    given = feed_forward_inputs(1, 4, 6, 8, 5, 5)
    for position, t in enumerate(given):
        small = t[:0] if t.dim() == 1 else t[:, :, :, 0]
        layers = [*given[:position], small, *given[position + 1 :]]
        with pytest.raises(ValueError, match="pass "):
            native.feed_forward(layers[0], layers[1:], cut=2)
    for cut in (-1, 9):
        with pytest.raises(ValueError, match="cut"):
            native.feed_forward(given[0], given[1:], cut=cut)
    with pytest.raises(ValueError, match="pass float32"):
        native.feed_forward(given[0].double(), given[1:], cut=2)


def test_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESC_SR_NATIVE", "off")
    with pytest.raises(DeviceError, match="off"):
        native.large_conv(*large_inputs(1, 2, 3, 3, 3))
