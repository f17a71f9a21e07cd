"""Whole networks in bfloat16, by kernels that round, stay near to float32, whatever the variant and size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esc_sr import weights
from esc_sr.benchmark.cpu import picture_of
from native_levels import ROUNDING, needs_rounding
from test_network import VARIANTS, make, picture
from test_network_bands import ONE_BLOCK

pytestmark = needs_rounding

sides = st.integers(1, 80)


@pytest.fixture(autouse=True, params=ROUNDING)
def rounding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESC_SR_NATIVE", request.param)


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=6, deadline=None)
@given(height=sides, width=sides, batch=st.integers(1, 2), threads=st.integers(1, 4))
@torch.no_grad()
def test_any_size(variant: str, height: int, width: int, batch: int, threads: int) -> None:
    network = make(ONE_BLOCK[variant], torch.float32)
    lr = picture(height, width, batch, torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        exact = network(lr)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(lr).float()
            assert torch.equal(network(lr).float(), rough)
    finally:
        torch.set_num_threads(before)
    assert rough.shape == exact.shape
    assert 0 < (rough - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("name", ["esc-light-x2", "esc-light-x3", "esc-light-x4", "esc-x4", "esc-fp-x4"])
@torch.no_grad()
def test_bundled_weights_keep_50_db(name: str) -> None:
    network, lr = weights.load(name), picture_of((70, 100))
    exact = network(lr).clamp(0, 1)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(lr).float().clamp(0, 1)
    assert -10 * (rough - exact).square().mean().log10() >= 50
