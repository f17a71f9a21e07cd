"""Gradients in half precision are those of float32, rounded."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from esc_sr import resize
from esc_sr.families.esc import ESC
from esc_sr.families.esc.blocks import ConvAttn
from esc_sr.families.esc.presets import PRESETS
from esc_sr.image import read_image

EXAMPLE = Path(__file__).parents[1] / "examples" / "harbour.png"


@pytest.mark.parametrize("name", ["esc-light", "esc-fp"])
def test_bf16_gives_every_parameter_its_gradient(name: str) -> None:
    torch.manual_seed(0)
    network = ESC(replace(PRESETS[name][2], n_blocks=2))
    for layer in network.modules():
        if type(layer) is ConvAttn:  # starts with zeros, which would hide what is before it
            torch.nn.init.normal_(next(layer.estimator[-1].parameters()), std=0.02)
    picture = torch.from_numpy(read_image(EXAMPLE).pixels).permute(2, 0, 1).float() / 255
    hr = torch.stack([picture[:, 100 * n : 100 * n + 128, 150 * n : 150 * n + 128] for n in range(2)])
    lr = resize(hr, (64, 64))
    gradients = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            sr = network(lr)
        loss = (sr.float() - hr).square().mean()
        gradients.append(torch.autograd.grad(loss, tuple(network.parameters())))
    for (parameter, _), exact, rounded in zip(network.named_parameters(), *gradients, strict=True):
        assert exact.norm() > 0, parameter
        assert (rounded - exact).norm() <= 0.05 * exact.norm(), parameter
