"""On a pretended GPU, networks and the engine stay on it, and have the results of the CPU."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from esc_sr import Upscaler
from esc_sr.families.bsrn.network import BSRN, BSRNConfig
from esc_sr.families.contract import Network
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.families.srvgg.network import SRVGGConfig, SRVGGNetCompact
from esc_sr.machine.precision import autocast
from pretend_gpu import GPU, pretended_gpu
from test_network import VARIANTS, make, picture, roughen

NETWORKS = [*VARIANTS, "lte", "bsrn", "srvgg"]


def network(name: str) -> Network:
    torch.manual_seed(0)
    if name == "lte":
        net: Network = EncoderLTE(LTEConfig(replace(VARIANTS["esc"], n_blocks=1), 16, (16,)))
    elif name == "bsrn":
        net = BSRN(BSRNConfig(2, 16, 1))
    elif name == "srvgg":
        net = SRVGGNetCompact(SRVGGConfig(2, 8, 2))
    else:
        return make(replace(VARIANTS[name], n_blocks=1))
    roughen(net)
    return net.eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("gradients", "precision"), [(False, "fp32"), (True, "bf16")])
def test_networks(name: str, gradients: bool, precision: str) -> None:
    net, lr = network(name), picture(19, 21, 2)
    given = () if net.config.scale else ((30, 40),)
    with torch.set_grad_enabled(gradients):
        expected = net(lr, *given)
        with pretended_gpu() as gpu:
            net, lr = net.to("cuda"), lr.to("cuda")
            loaded = gpu.sent
            with autocast(GPU, precision):
                found = net(lr, *given)
            assert found.device == GPU and not gpu.waits and gpu.sent - loaded < 1000
            if gradients:
                found.sum().backward()
                assert all(p.grad is not None and p.grad.device == GPU for p in net.parameters())
            error = (found.detach().cpu() - expected).abs().max() / expected.abs().max()
            assert error < (1e-5 if precision == "fp32" else 0.05)


def upscaled(device: str, name: str, **options: Any) -> tuple[np.ndarray, str]:
    """A picture of 30 x 300 px, and the first of what is told of it."""
    lr = (255 * picture(300, 30)[0].permute(1, 2, 0).numpy()).astype(np.uint8)
    told: list[str] = []
    upscaler = Upscaler(network(name), 2, device, report=told.append, notify=lambda text: None, **options)
    assert upscaler.device.type == device
    return upscaler.upscale(lr), told[0]


GUARD, RESULT = "runner.py:_bands", "colours.py:write"
"""Where the host waits for each band of a result: once to see whether it is finite, and once for it."""

WAYS: list[tuple[str, str, dict[str, Any], set[str]]] = [
    ("esc", "one piece", {}, {GUARD, RESULT}),
    ("esc", "bands of", {"max_memory": "12MiB"}, {GUARD, RESULT}),
    ("esc", " in /", {"max_memory": "2500KiB"}, {GUARD, RESULT, "rows.py:rowwise_each", "rows.py:sum_of"}),
    ("real-m-x2", "one piece", {"precision": "bf16"}, {GUARD, RESULT}),
    ("lte", "one piece", {"precision": "bf16"}, {GUARD, RESULT}),
    ("bsrn", "one piece", {"self_ensemble": True}, {GUARD, RESULT, "runner.py:_attempt"}),
    ("srvgg", "in tiles of", {"max_memory": "9MiB"}, {GUARD, RESULT}),
]


@pytest.mark.parametrize(("name", "how", "options", "waits"), WAYS)
def test_the_engine(name: str, how: str, options: dict[str, Any], waits: set[str]) -> None:
    expected, _ = upscaled(
        "cpu", name, **{key: value for key, value in options.items() if key != "max_memory"}
    )
    with pretended_gpu() as gpu:
        found, told = upscaled("cuda", name, **options)
    assert how in told
    assert set(gpu.waits) == waits
    assert np.abs(found.astype(int) - expected).max() <= (3 if "precision" in options else 1)
