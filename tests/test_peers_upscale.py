"""Pictures through networks of other families: every kind of them, whole or in tiles, inside their memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from esc_sr.errors import DeviceError, UsageError
from esc_sr.families.contract import Network
from esc_sr.machine.memory import parse_memory
from esc_sr.network.rows import Bands
from esc_sr.upscaling.engine import Upscaler, upscale
from esc_sr.upscaling.tiles import Tiling, map_rows, tiled
from peer_files import TINY, bsrn, srvgg

WITH_TILES = pytest.mark.parametrize("size", [(100, 71), (33, 90), (9, 9), (1, 130), (48, 49)])


def in_tiles(network: Network, lr: Tensor, side: int) -> tuple[Tensor, list[float]]:
    told = list[float]()
    with torch.inference_mode():
        bands = Bands(side, lr.device, done=told.append)
        return torch.cat([band for _, band in tiled(network, lr, side, bands)], 2), told


@WITH_TILES
@pytest.mark.parametrize("scale", [1, 3])
def test_tiles_of_srvgg_are_exact(size: tuple[int, int], scale: int) -> None:
    network, lr = srvgg(scale), torch.rand(2, 3, *size)
    side = 2 * network.reach + 2 + 6
    with torch.no_grad():
        expected = network(lr)
    found, told = in_tiles(network, lr, side)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert sum(told) == map_rows(network, *size, side)


@WITH_TILES
def test_tiles_of_bsrn_are_close_and_add_up(size: tuple[int, int]) -> None:
    network = bsrn()
    lr = torch.rand(1, 3, *size).cumsum(-1).div(size[1])
    with torch.no_grad():
        expected = network(lr)
    found, _ = in_tiles(network, lr, 48)
    assert found.shape == expected.shape
    assert (found - expected).abs().mean() < 0.02 * expected.std() + 1e-6
    overlap, margin = Tiling.of(network, 48)[1:]
    assert 48 >= 2 * (overlap - margin)


def test_a_reach_too_short_would_show() -> None:
    network, lr = srvgg(), torch.rand(1, 3, 60, 60)
    network.reach = 1
    with torch.no_grad():
        assert (in_tiles(network, lr, 16)[0] - network(lr)).abs().max() > 1e-4


MEASURE = """
import sys, numpy as np, torch
from pathlib import Path
from esc_sr.families.bsrn import *
from esc_sr.families.esc import *
from esc_sr.families.srvgg import *
from esc_sr.upscaling import plan
from esc_sr.upscaling.engine import Upscaler
def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024
torch.set_num_threads(1)
torch.manual_seed(0)
kind, amount, out = sys.argv[1:]
plan.free_disk = lambda: 0
network = {
    "bsrn": lambda: BSRN(BSRNConfig(blocks=1)),
    "srvgg": lambda: SRVGGNetCompact(SRVGGConfig(convs=4)),
    "esc": lambda: ESC(ESCConfig(n_blocks=1, window=16)),
}[kind]()
told = []
upscaler = Upscaler(network.eval(), max_memory=amount, report=told.append, notify=told.append)
upscaler.upscale(np.zeros((16, 16, 3), np.uint8))
lr = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
before = resident("VmRSS")
sr = upscaler.upscale(lr)
print(resident("VmHWM") - before, "|".join(told[1:]))
torch.save(torch.from_numpy(sr), out)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory as Linux does")
@pytest.mark.parametrize(
    ("kind", "amount", "how"),
    [
        ("srvgg", 36, "in tiles of "),
        ("bsrn", 40, "in blended tiles of "),
        ("esc", 40, "in blended tiles of "),
    ],
)
def test_memory_stays_inside_what_is_allowed(kind: str, amount: int, how: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEASURE, kind, f"{amount}MiB", str(tmp_path / "sr.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    peak, told = done.split(maxsplit=1)
    assert how in told and ("approximately" in told) is (kind != "srvgg")
    assert 5 < float(peak) <= amount


def tight(network: Network, lr: Tensor, self_ensemble: bool = False) -> int:
    """The least memory with which a picture goes through."""
    with pytest.raises(DeviceError) as caught:
        upscale(lr, network, max_memory=1, self_ensemble=self_ensemble)
    return parse_memory(str(caught.value).split(" or ")[1].split(" in the ")[0]) + 2**20


def test_little_memory_gives_srvgg_the_same_and_bsrn_a_notice() -> None:
    network = srvgg(4, 16, 4)
    lr = torch.rand(3, 200, 300)
    told, notices = list[str](), list[str]()
    upscaler = Upscaler(network, max_memory=tight(network, lr), report=told.append, notify=notices.append)
    difference = (upscaler.upscale(lr) - upscale(lr, network, max_memory="1GiB")).abs().max()
    assert told[0].startswith("300 x 200 in tiles of ") and difference <= 1e-5 and notices == []
    Upscaler(bsrn(), max_memory=tight(bsrn(), lr), notify=notices.append).upscale(lr)
    assert notices == [
        "300 x 200: too little memory for the exact result; done in blended tiles, approximately"
    ]
    for peer in TINY.values():
        with pytest.raises(DeviceError, match=r"300 x 200 takes .* in the smallest tiles; allowed are 1 MiB"):
            upscale(lr, peer, max_memory="1MiB")


def test_self_ensemble_in_tiles_is_that_in_one_piece() -> None:
    network, lr = srvgg(4, 16, 4), torch.rand(1, 3, 90, 230)
    whole = upscale(lr, network, self_ensemble=True)
    told = list[str]()
    budget = tight(network, lr, self_ensemble=True)
    tiled = Upscaler(network, self_ensemble=True, max_memory=budget, report=told.append).upscale(lr)
    assert "in tiles" in told[0]
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("network", TINY.values(), ids=TINY)
def test_every_kind_of_picture(network: Network) -> None:
    chance = np.random.default_rng(0)
    for shape, dtype in (
        ((1, 1, 3), np.uint8),
        ((20, 9, 4), np.uint16),
        ((7, 30), np.uint8),
        ((9, 9, 2), np.uint16),
    ):
        pixels = chance.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        sr = upscale(pixels, network)
        assert sr.dtype == dtype and sr.shape == (2 * shape[0], 2 * shape[1], *shape[2:])
    batch = torch.rand(3, 3, 18, 21)
    torch.testing.assert_close(
        upscale(batch, network)[1:2], network(batch[1:2]).detach().clamp(0, 1), atol=1e-5, rtol=0
    )
    assert upscale(batch, network, scale=1.5).shape == (3, 3, 27, 32)
    half = upscale(batch, network, precision="bf16")
    assert (half - upscale(batch, network)).abs().mean() < 0.02
    with pytest.raises(UsageError, match="enlarges x2 at most, not x3"):
        upscale(batch, network, scale=3)
