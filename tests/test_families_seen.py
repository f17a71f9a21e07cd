"""What torch and people see of networks of other papers: hooks, other layers, counts, transforms, types."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from esc_sr import families
from esc_sr.errors import UsageError
from esc_sr.families.atd import ATDConfig
from esc_sr.families.bsrn import BSRNConfig
from esc_sr.families.contract import Network
from esc_sr.families.mambairv2 import MambaIRv2, MambaIRv2Config
from published_families import PRESETS

LR = (1, 3, 9, 10)
EACH = pytest.mark.parametrize("name", [*PRESETS, "bsrn"])
SCANS = pytest.mark.parametrize("name", ["mambair-light", "mambairv2-light"])


def network(name: str) -> Network:
    if name == "bsrn":
        torch.manual_seed(0)
        return families.build(BSRNConfig(2, dim=16, blocks=2)).eval()
    return PRESETS[name].network(name)


@EACH
def test_flops_are_the_same_with_and_without_gradients(name: str) -> None:
    net, lr, found = network(name), torch.rand(LR), set()
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients), FlopCounterMode(display=False) as counter:
            net(lr)
        found.add(counter.get_total_flops())
    if name != "hit-srf":  # whose naive backend multiplies in another order
        net.attention = "naive"
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(lr)
    assert found == {counter.get_total_flops()}


@pytest.mark.filterwarnings("ignore:There is a performance drop", "ignore:`torch.jit.script`")
@EACH
def test_functions_of_a_network_can_be_transformed(name: str) -> None:
    net, lr = network(name), torch.rand(2, *LR)
    weights = {key: value.detach() for key, value in net.named_parameters()}
    share = torch.randn(net(lr[0]).shape)

    def weighed(lr: Tensor, weights: dict[str, Tensor]) -> Tensor:
        return (torch.func.functional_call(net, weights, (lr,)) * share).sum()

    found = torch.func.grad(weighed, (0, 1))(lr[0], weights)
    given = lr[0].clone().requires_grad_()
    learned = {key: value for key, value in net.named_parameters() if value.requires_grad}
    wanted = torch.autograd.grad((net(given) * share).sum(), [given, *learned.values()])
    ours = [found[0], *(found[1][key] for key in learned)]
    difference = torch.cat([(one - two).flatten() for one, two in zip(ours, wanted, strict=True)]).norm()
    assert difference <= 1e-3 * torch.cat([one.flatten() for one in wanted]).norm()
    torch.func.jvp(net, (lr[0],), (lr[0],))
    with torch.no_grad():
        torch.testing.assert_close(torch.func.vmap(net)(lr)[1], net(lr[1]), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", PRESETS)
def test_a_trace_is_the_same_with_and_without_gradients(name: str) -> None:
    net, lr = network(name), torch.rand(LR)
    torch.testing.assert_close(torch.jit.trace(net, lr, check_trace=False)(lr), net(lr), atol=1e-5, rtol=1e-5)


@EACH
def test_one_channel_and_whole_numbers_are_refused(name: str) -> None:
    net = network(name)
    for lr in (torch.rand(1, 1, 9, 10), torch.zeros(LR, dtype=torch.uint8)):
        with pytest.raises((RuntimeError, UsageError)):
            net(lr)


@EACH
@torch.no_grad()
def test_a_network_may_have_its_channels_last(name: str) -> None:
    net, lr = network(name), torch.rand(2, 3, 9, 10)
    wanted = net(lr)
    kept = {key: value.clone() for key, value in net.state_dict().items()}
    last: Any = {"memory_format": torch.channels_last}
    net.to(**last).double().float()
    assert all(torch.equal(value, kept[key]) for key, value in net.state_dict().items())
    torch.testing.assert_close(net(lr.contiguous(**last)), wanted)


class Wrapped(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.calls = layer, 0

    def forward(self, *given: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(*given)


@EACH
@torch.no_grad()
def test_layers_are_called_hooked_or_replaced(name: str) -> None:
    net, lr, seen = network(name), torch.rand(LR), set[nn.Module]()
    wanted = net(lr)
    kinds = nn.Conv2d, nn.Linear, nn.Embedding, nn.Sequential
    layers = {key: layer for key, layer in net.named_modules() if isinstance(layer, kinds)}
    hooks = [layer.register_forward_hook(lambda layer, *_: seen.update([layer])) for layer in layers.values()]
    torch.testing.assert_close(net(lr), wanted, atol=1e-5, rtol=1e-5)
    assert {key for key, layer in layers.items() if layer not in seen} <= {""}
    for hook in hooks:
        hook.remove()
    wraps = {key: Wrapped(layer) for key, layer in layers.items() if not isinstance(layer, nn.Sequential)}
    for key, wrap in wraps.items():
        net.set_submodule(key, wrap)
    torch.testing.assert_close(net(lr), wanted, atol=1e-5, rtol=1e-5)
    assert all(wrap.calls for wrap in wraps.values())


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@EACH
def test_what_a_hook_keeps_stays_and_has_gradients(name: str) -> None:
    net, lr, kept = network(name), torch.rand(LR), list[tuple[str, Tensor, Tensor]]()
    for key, layer in net.named_modules():
        if key and not isinstance(layer, nn.ModuleList | nn.ModuleDict):
            layer.register_full_backward_hook(lambda *_: None)
            layer.register_forward_hook(
                lambda _layer, _given, y, key=key: kept.extend(
                    [(key, y, y.detach().clone())] if isinstance(y, Tensor) else []
                )
            )
    net(lr.requires_grad_()).sum().backward()
    assert [key for key, y, before in kept if not torch.equal(y, before)] == []


@SCANS
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_scans_are_of_the_type_of_the_network(name: str, dtype: torch.dtype) -> None:
    net, lr = network(name), torch.rand(LR)
    wanted = net(lr)
    found = net.to(dtype)(lr.to(dtype))
    assert found.dtype == dtype == net.to("meta")(lr.to("meta", dtype)).dtype
    exact = dtype == torch.float64
    torch.testing.assert_close(found.float(), wanted, atol=1e-5 if exact else 0.05, rtol=0)
    if isinstance(drawn := network(name).to(dtype), MambaIRv2):
        drawn.noise_seed = 1
        assert drawn(lr.to(dtype)).dtype == dtype


@pytest.mark.parametrize("sizes", [ATDConfig, MambaIRv2Config])
def test_kernels_of_less_than_a_pixel_are_refused(sizes: type) -> None:
    for kernel in (-1, 0, 2):
        with pytest.raises(ValueError, match="kernel"):
            sizes(kernel=kernel)
