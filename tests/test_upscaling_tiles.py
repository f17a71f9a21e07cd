"""Blended tiles, where neither memory nor disk suffices for the exact result."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esc_sr.errors import DeviceError
from esc_sr.families.atd.network import ATDConfig
from esc_sr.families.contract import Config
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.esc.blocks import ConvAttn
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.families.lte import network as lte_module
from esc_sr.families.rdn.network import RDNConfig
from esc_sr.machine.memory import parse_memory
from esc_sr.network.rows import Bands, join
from esc_sr.upscaling import plan as plan_module
from esc_sr.upscaling.engine import Upscaler, upscale
from esc_sr.upscaling.frame import framed
from esc_sr.upscaling.tiles import map_rows, tiled
from published_families import PRESETS

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


def lte(encoder: Config) -> EncoderLTE:
    torch.manual_seed(0)
    return EncoderLTE(LTEConfig(encoder, hidden=8, mlp=(8,))).eval()


RDN = RDNConfig(2, dim=8, growth=4, blocks=2, convs=2)


@pytest.mark.parametrize("size", [(100, 71), (33, 90), (9, 9), (1, 130)])
@pytest.mark.parametrize("frame", [0, 4])
@pytest.mark.parametrize("scale", [1.37, 3])
def test_tiles_for_any_size_are_exact_if_the_encoder_sees_no_further(
    size: tuple[int, int], frame: int, scale: float
) -> None:
    network, told = lte(RDN), list[float]()
    lr = torch.rand(2, 3, *size)
    framed_lr = framed(lr, frame)
    wanted = round(scale * size[0]), round(scale * size[1])
    with torch.inference_mode():
        expected = join(network.bands(framed_lr, None, wanted, frame), wanted[0])
        bands = Bands(32, lr.device, done=told.append)
        found = join(iter(list(tiled(network, framed_lr, 32, bands, wanted, frame))), wanted[0])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    height, width = framed_lr.shape[2:]
    assert sum(told) == pytest.approx(network.passes * map_rows(network, height, width, 32))


def test_a_reach_too_short_would_show_at_any_size() -> None:
    network, lr = lte(RDN), torch.rand(1, 3, 60, 60)
    network.reach = 1
    with torch.inference_mode():
        expected = network(lr, (80, 80))
        found = join(tiled(network, lr, 16, Bands(16, lr.device), (80, 80)), 80)
    assert (found - expected).abs().max() > 1e-4


@pytest.mark.parametrize(
    "encoder", [RDN, TINY, ATDConfig(**PRESETS["atd-light"].small)], ids=["rdn", "esc", "atd"]
)
def test_any_size_within_little_memory(encoder: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "free_disk", lambda: 0)
    monkeypatch.setattr(lte_module, "QUERIES", 2**10)
    monkeypatch.setattr(lte_module, "DECODED", 2**10)
    network, lr = lte(encoder), torch.rand(3, 90, 130).cumsum(-1) / 130
    with pytest.raises(DeviceError, match="in the smallest tiles") as caught:
        upscale(lr, network, 1.6, max_memory=1)
    least = str(caught.value).split(" in the smallest")[0].rsplit("or ", 1)[1]
    told, notices = list[str](), list[str]()
    upscaler = Upscaler(
        network, 1.6, max_memory=parse_memory(least) + 2**18, report=told.append, notify=notices.append
    )
    found, heard = upscaler.upscale(lr), list[float]()
    assert torch.equal(upscaler.upscale(lr, heard.append), found)
    difference = (found - upscale(lr, network, 1.6)).abs()
    exact = encoder is RDN
    assert "130 x 90 in tiles of " in told[0] if exact else " in blended tiles of " in told[0]
    assert [one for one in notices if "approximately" in one] == ([] if exact else notices[:1])
    assert difference.max() < 1e-5 if exact else 0 < difference.mean() < 0.01
    assert heard == sorted(heard) and heard[-1] == pytest.approx(1)
