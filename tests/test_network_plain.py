"""A network layer after layer and as `banded` executes it: the same numbers; hooks see every layer."""

import pickle
from collections import Counter
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.flop_counter import FlopCounterMode

from esc_sr import native
from esc_sr.families.esc import ESC, banded
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.native import library
from esc_sr.network import rows as rows_module
from esc_sr.network.rows import Bands, join
from test_network import TRACED, VARIANTS, assert_equal, make, picture, roughen

CPU = torch.device("cpu")
NAMES = [*VARIANTS, "lte"]
SIZES = ((1, 1), (5, 37), (34, 9))
HOOKS = ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook")

needs_library = pytest.mark.skipif(library.load()[0] is None, reason=f"native kernels: {library.load()[1]}")


@pytest.fixture(params=[pytest.param("auto", marks=needs_library), "off"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(native.VARIABLE, request.param)
    return str(request.param)


def network(name: str) -> ESC | EncoderLTE:
    if name != "lte":
        return make(VARIANTS[name])
    torch.manual_seed(0)
    model = EncoderLTE(LTEConfig(VARIANTS["esc"], 16, (16,)))
    roughen(model)
    return model.eval()


def enlarge(net: ESC | EncoderLTE, x: Tensor) -> Tensor:
    return net(x, (2 * x.shape[2] + 1, 3 * x.shape[3])) if isinstance(net, EncoderLTE) else net(x)


def in_bands(net: ESC | EncoderLTE, x: Tensor, bands: Bands | None) -> Tensor:
    if isinstance(net, EncoderLTE):
        size = 2 * x.shape[2] + 1, 3 * x.shape[3]
        return join(net.bands(x, bands, size), size[0])
    return join(net.bands(x, bands), net.config.scale * x.shape[2])


def plainly(net: ESC | EncoderLTE, x: Tensor) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "applies", lambda *_: False)
        return enlarge(net, x)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_banded_gives_what_the_layers_give(name: str, kernels: str) -> None:
    net = network(name)
    for height, width in SIZES:
        x = picture(height, width, batch=2)
        wanted = plainly(net, x)
        for bands in (None, Bands(8, CPU)):
            assert_equal(in_bands(net, x, bands), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_layers(name: str, kernels: str) -> None:
    net = network(name)
    for height, width in SIZES:
        x = picture(height, width, batch=2)
        if kernels == "off":  # in float32 rounding decides on which side of its edge a LeakyReLU is
            net, x = net.double(), x.double()
        x.requires_grad_()
        inputs = {"lr": x, **dict(net.named_parameters())}
        found, wanted = (
            torch.autograd.grad(sr.square().sum(), tuple(inputs.values()))
            for sr in (in_bands(net, x, None), plainly(net, x))
        )
        for which, one, two in zip(inputs, found, wanted, strict=True):
            assert (one - two).norm() <= 1e-4 * two.norm() + 1e-7, which


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gradients", [False, True])
def test_hooks_see_every_layer(
    name: str, gradients: bool, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "BAND_PIXELS", 1)
    net, x, calls = network(name), picture(19, 9), Counter[str]()
    layers = {which: layer for which, layer in net.named_modules() if not isinstance(layer, nn.ModuleList)}
    with torch.set_grad_enabled(gradients):
        wanted = enlarge(net, x)
        for which, layer in layers.items():
            layer.register_forward_hook(lambda layer, args, y, which=which: calls.update([which]))
        assert_equal(enlarge(net, x), wanted)
    assert calls.keys() == layers.keys()
    once = {which for which, number in calls.items() if number == 1}
    assert layers.keys() - once <= {which for which in layers if which.startswith("decoder.")}  # four corners


@pytest.mark.parametrize("kind", HOOKS)
def test_a_hook_of_any_kind_is_called(kind: str) -> None:
    net, calls = make(VARIANTS["esc"]), list[object]()
    handle = getattr(net.get_submodule("blocks.1.ffns.0.expand"), kind)(lambda *_: calls.append(0))
    net(picture(9, 9)).sum().backward()
    assert len(calls) == 1
    handle.remove()
    net(picture(9, 9)).sum().backward()
    assert len(calls) == 1


@torch.no_grad()
def test_a_hook_on_all_layers_is_called() -> None:
    net, seen = make(VARIANTS["esc"]), set[nn.Module]()
    handle = register_module_forward_hook(lambda layer, *_: seen.update([layer]))
    try:
        net(picture(9, 9))
    finally:
        handle.remove()
    assert {layer for layer in net.modules() if not isinstance(layer, nn.ModuleList)} <= seen


class Halved(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


@pytest.mark.parametrize("gradients", [False, True])
def test_a_layer_that_was_changed_or_replaced_is_called(gradients: bool, kernels: str) -> None:
    x = picture(19, 9)
    with torch.set_grad_enabled(gradients):
        net = make(VARIANTS["esc"])
        before = net(x)
        vars(net.get_submodule("blocks.0.convattns.0"))["forward"] = lambda att, *_: torch.zeros_like(att)
        patched = net(x)
        assert (patched - before).abs().max() > 1e-4
        net.head.register_forward_hook(lambda *_: None)
        assert_equal(net(x), patched)
        net = make(VARIANTS["esc"])
        tail = deepcopy(net.tail)
        tail.__class__ = Halved
        net.tail = tail
        assert (net(x) - before).abs().max() > 1e-4
        net.set_submodule("blocks.0.ffns.0", nn.Identity())
        assert net(x).isfinite().all()
        net = deepcopy(make(VARIANTS["esc"]))
        nn.utils.parametrize.register_parametrization(net.tail, "weight", Twice())
        assert (net(x) - before).abs().max() > 1e-4
        assert pickle.loads(pickle.dumps(make(VARIANTS["esc"]))).made_of == make(VARIANTS["esc"]).made_of


class Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", [*TRACED, "lte"])
@torch.no_grad()
def test_torch_sees_what_is_computed(name: str) -> None:
    """Tracing, counting, and tensors without numbers: kernels would write past all of these."""
    net, x, other = network(name), picture(16, 16), picture(32, 32)  # whole windows: traces fix the padding
    if isinstance(net, ESC):
        traced = torch.jit.trace(net, x, check_trace=False)
        for given in (x, other):
            assert_equal(traced(given), net(given))
        assert_equal(make_fx(net)(x)(x), net(x))
    with FlopCounterMode(display=False) as seen:
        enlarge(net, x)
    with native.without(), FlopCounterMode(display=False) as plain:
        plainly(net, x)
    assert seen.get_total_flops() == plain.get_total_flops() > 0
    wanted = enlarge(net, x).shape
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert enlarge(net, mode.from_tensor(x)).shape == wanted


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_functions_of_a_network_can_be_transformed() -> None:
    net, x = make(VARIANTS["esc"]), picture(9, 9)
    found = torch.func.grad(lambda x: net(x).square().sum())(x)
    x.requires_grad_()
    (wanted,) = torch.autograd.grad(net(x).square().sum(), x)
    assert (found - wanted).norm() <= 1e-4 * wanted.norm()
    with torch.no_grad():
        assert_equal(torch.func.vmap(net)(x[None].expand(3, -1, -1, -1, -1))[2], net(x))


def test_what_is_executed_in_bands(kernels: str) -> None:
    net, x = make(VARIANTS["esc"]), picture(9, 9)
    assert rows_module.applies(net, net.made_of, x) == (kernels == "auto")
    with torch.no_grad():
        assert rows_module.applies(net, net.made_of, x)
        assert not rows_module.applies(net.to("meta"), net.made_of, x.to("meta"))
        net.register_forward_hook(lambda *_: None)  # sees the network anyhow
        assert rows_module.applies(net, net.made_of, x)
        net.head.register_forward_hook(lambda *_: None)
        assert not rows_module.applies(net, net.made_of, x)


@torch.no_grad()
def test_a_forward_goes_the_way_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = make(VARIANTS["esc"]), picture(9, 9)
    monkeypatch.setattr(ESC, "features", None)  # calling it would fail
    net(x)
    monkeypatch.undo()
    monkeypatch.setattr(banded, "features", None)
    net.head.register_forward_hook(lambda *_: None)
    net(x)


@torch.no_grad()
def test_an_exported_network_shows_its_layers() -> None:
    net = make(VARIANTS["esc"])
    program = torch.export.export(net, (picture(9, 9),))
    seen = {
        which for node in program.graph.nodes for which, _ in node.meta.get("nn_module_stack", {}).values()
    }
    silent = (nn.ModuleList, nn.Identity)
    assert seen >= {which for which, layer in net.named_modules() if not isinstance(layer, silent)}


@pytest.mark.parametrize("gradients", [False, True])
def test_a_compiled_network_is_one_graph(gradients: bool) -> None:
    net, x = make(replace(VARIANTS["esc"], n_blocks=1, n_convattn=1)), picture(9, 9)
    with torch.set_grad_enabled(gradients):
        assert_equal(torch.compile(net, backend="eager", fullgraph=True)(x), net(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_halves_of_lte_are_near_and_finite(dtype: torch.dtype, kernels: str) -> None:
    """Coordinates in half precision would tell few of so many columns apart, and divide 0 by 0."""
    net, x = network("lte"), picture(3, 300)
    wanted = enlarge(net, x)
    found = enlarge(net.to(dtype), x.to(dtype))
    assert found.dtype == dtype and found.isfinite().all()
    assert (found - wanted).abs().mean() < 0.01
