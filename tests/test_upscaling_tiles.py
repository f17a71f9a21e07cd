"""Blended tiles, where neither memory nor disk suffices for the exact result."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esc_sr.errors import DeviceError
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.esc.blocks import ConvAttn
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.network.rows import Bands, join
from esc_sr.upscaling import plan as plan_module
from esc_sr.upscaling.engine import Upscaler, upscale
from esc_sr.upscaling.tiles import map_rows, tiled

TINY = ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=2, window=8, heads=2)


def tiny(config: ESCConfig = TINY) -> ESC:
    torch.manual_seed(0)
    network = ESC(config).eval()
    for layer in network.modules():
        if isinstance(layer, ConvAttn):
            nn.init.normal_(layer.estimator[-1].get_parameter("bias"), std=0.2)
    return network


def in_tiles(network: ESC, lr: Tensor, side: int) -> Tensor:
    with torch.inference_mode():
        bands = Bands(network.config.window, lr.device)
        return join(tiled(network, lr, side, bands), network.config.scale * lr.shape[2])


@pytest.mark.parametrize("size", [(100, 70), (33, 90), (47, 16), (1, 81), (32, 32), (49, 48)])
@pytest.mark.parametrize("unshuffle", [1, 2])
def test_blends_add_up(size: tuple[int, int], unshuffle: int) -> None:
    network = tiny(replace(TINY, unshuffle=unshuffle))
    for parameter in network.upsampler.parameters():
        nn.init.zeros_(parameter)  # what remains is the long skip
    lr = torch.rand(2, 3, *size)
    sr = in_tiles(network, lr, 32 * unshuffle)
    torch.testing.assert_close(sr, lr.repeat_interleave(2, -1).repeat_interleave(2, -2))


def test_a_single_tile_is_exact() -> None:
    network, lr = tiny(), torch.rand(1, 3, 40, 37)
    with torch.no_grad():
        torch.testing.assert_close(in_tiles(network, lr, 40), network(lr), atol=1e-5, rtol=0)


def test_tiles_are_close_and_seams_are_blended() -> None:
    network, lr = tiny(), torch.rand(1, 3, 90, 110).cumsum(-1).div(110)
    with torch.no_grad():
        expected = network(lr)
    error = (in_tiles(network, lr, 48) - expected).abs()
    assert 0 < error.mean() < 0.01 * expected.std()


@pytest.mark.parametrize("size", [(100, 71), (33, 90), (9, 9)])
@pytest.mark.parametrize("unshuffle", [1, 2])
def test_tiles_tell_what_is_done(size: tuple[int, int], unshuffle: int) -> None:
    network, told = tiny(replace(TINY, unshuffle=unshuffle)), list[float]()
    bands = Bands(8, torch.device("cpu"), done=told.append)
    with torch.inference_mode():
        list(tiled(network, torch.rand(1, 3, *size), 32 * unshuffle, bands))
    assert sum(told) == network.passes * map_rows(network, *size, 32 * unshuffle)


def test_kernels_are_those_of_the_reduced_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    estimate = ConvAttn.dynamic_kernel

    def watched(layer: ConvAttn, att: Tensor) -> Tensor | None:
        seen.append(tuple(att.shape[2:]))
        return estimate(layer, att)

    monkeypatch.setattr(ConvAttn, "dynamic_kernel", watched)
    in_tiles(tiny(), torch.rand(1, 3, 64, 128), 32)
    assert seen == [(16, 32)] * TINY.n_convattn


def test_tiles_are_the_last_resort_and_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "free_disk", lambda: 0)
    told: list[str] = []
    notices: list[str] = []
    pixels = np.random.default_rng(0).integers(0, 256, (300, 140, 3), np.uint8)
    upscaler = Upscaler(tiny(), max_memory="4MiB", report=told.append, notify=notices.append)
    heard: list[float] = []
    sr = [upscaler.upscale(pixels), upscaler.upscale(pixels, heard.append)]
    assert heard == sorted(heard) and len(heard) > 100 and heard[-1] == pytest.approx(1)
    assert told == ["140 x 300 in blended tiles of 48 x 48, approximately, about 4 MiB of 4 MiB"]
    assert notices == [
        "140 x 300: too little memory and disk for the exact result; done in blended tiles, approximately"
    ]
    np.testing.assert_array_equal(sr[0], sr[1])
    exact = upscale(pixels, tiny(), max_memory="1GiB")
    assert np.abs(sr[0].astype(int) - exact).mean() < 1


def test_an_arbitrary_scale_network_has_no_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "free_disk", lambda: 0)
    network = EncoderLTE(LTEConfig(TINY, hidden=8, mlp=(8,))).eval()
    with pytest.raises(DeviceError, match="TMPDIR"):
        upscale(torch.rand(3, 300, 140), network, max_memory="16MiB")
