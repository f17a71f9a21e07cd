"""Bands change nothing: every variant, any band height, any size; and nothing is written that is not ours."""

import weakref
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from esc_sr.families.esc import ESCConfig
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.network.rows import Bands, join, walk
from test_network import TINY, VARIANTS, make, picture, roughen

CPU = torch.device("cpu")
ONE_BLOCK = {name: replace(config, n_blocks=1, n_convattn=1) for name, config in VARIANTS.items()}

heights = st.integers(1, 40)
widths = st.integers(1, 12)
batches = st.integers(1, 2)
rows = st.integers(1, 45)


def lte() -> EncoderLTE:
    torch.manual_seed(0)
    model = EncoderLTE(LTEConfig(ONE_BLOCK["esc"], 16, (16,)))
    roughen(model)
    return model.double().eval()


@pytest.mark.parametrize("variant", ONE_BLOCK)
@settings(max_examples=6, deadline=None)
@given(height=heights, width=widths, batch=batches, rows=rows)
@torch.no_grad()
def test_bands_of_any_height(variant: str, height: int, width: int, batch: int, rows: int) -> None:
    net = make(ONE_BLOCK[variant], torch.float64)
    x = picture(height, width, batch, torch.float64)
    whole = join(net.bands(x, None), net.config.scale * height)
    banded = join(net.bands(x, Bands(rows, CPU)), net.config.scale * height)
    assert banded.shape == whole.shape
    assert (banded - whole).abs().max() <= 1e-10 * max(1.0, whole.abs().max().item())


@settings(max_examples=12, deadline=None)
@given(height=heights, width=widths, batch=batches, rows=rows, size=st.tuples(heights, heights))
@torch.no_grad()
def test_lte_in_bands(height: int, width: int, batch: int, rows: int, size: tuple[int, int]) -> None:
    net, x = lte(), picture(height, width, batch, torch.float64)
    whole = join(net.bands(x, None, size), size[0])
    banded = join(net.bands(x, Bands(rows, CPU), size), size[0])
    assert banded.shape == (batch, 3, *size)
    assert (banded - whole).abs().max() <= 1e-10 * max(1.0, whole.abs().max().item())


@pytest.mark.parametrize("variant", [*VARIANTS, "lte"])
@torch.no_grad()
def test_bands_tell_what_is_done(variant: str) -> None:
    told: list[float] = []
    bands = Bands(8, CPU, done=told.append)
    net = lte() if variant == "lte" else make(VARIANTS[variant], torch.float64)
    x = picture(24, 12, 1, torch.float64)
    list(net.bands(x, bands, (30, 30)) if isinstance(net, EncoderLTE) else net.bands(x, bands))
    fold = 1 if isinstance(net, EncoderLTE) else net.config.unshuffle
    assert sum(told) == pytest.approx(net.passes * 24 / fold)


@pytest.mark.parametrize("factor", [3, 5])
@torch.no_grad()
def test_lte_at_odd_scales_in_bands(factor: int) -> None:
    """At odd scales some points lie just between two pixels, and in the last row on the picture's edge."""
    net, x = lte(), picture(13, 7, dtype=torch.float64)
    size = (13 * factor, 7 * factor)
    whole = join(net.bands(x, None, size), size[0])
    for height in (1, 4, 5, 12):
        assert (join(net.bands(x, Bands(height, CPU), size), size[0]) - whole).abs().max() <= 1e-10


@torch.no_grad()
def test_bands_in_single_precision_differ_by_rounding() -> None:
    net = make(ESCConfig(**TINY))
    x = picture(75, 20)
    whole = join(net.bands(x, None), 150)
    exact = join(make(ESCConfig(**TINY), torch.float64).bands(x.double(), None), 150)
    banded = join(net.bands(x, Bands(8, CPU)), 150)
    noise = (whole - exact).abs().max()
    assert (banded - exact).abs().max() <= 2 * noise


@pytest.mark.parametrize(
    ("config", "maps"),
    [(ESCConfig(**{**TINY, "pdim": 4}), 2.25), (ESCConfig(**{**TINY, "pdim": 4}, n_attn=2), 3.0)],
)
@torch.no_grad()
def test_at_most_two_and_a_quarter_maps_live_at_once(config: ESCConfig, maps: float) -> None:
    alive: list[int] = []
    peak = 0

    def new_map(like: Tensor, shape: Sequence[int]) -> Tensor:
        nonlocal peak
        made = like.new_empty(tuple(shape))
        size = made.numel()
        alive.append(size)
        peak = max(peak, sum(alive))
        weakref.finalize(made, alive.remove, size)
        return made

    net = make(config)
    x = picture(64, 8)
    list(net.bands(x, Bands(8, CPU, new_map)))
    assert peak == maps * 16 * 64 * 8
    assert net.cost(64, 8, 8).maps == 4 * peak


@torch.no_grad()
def test_maps_in_another_memory_layout() -> None:
    net, x = make(VARIANTS["esc"]), picture(30, 9)
    planar = Bands(8, CPU, lambda like, shape: like.new_empty(tuple(shape)))
    assert torch.allclose(join(net.bands(x, planar), 60), join(net.bands(x, None), 60), atol=1e-5)


def test_a_stage_may_be_written_over_its_own_input() -> None:
    x = torch.arange(10.0).view(1, 1, 10, 1)

    def stage(band: Tensor) -> tuple[Tensor]:
        return (torch.nn.functional.avg_pool2d(band, (5, 1), 1, (2, 0)),)

    for height in (1, 2, 3, 7):
        y = x.clone()
        for top, (band,) in walk(stage, (y,), Bands(height, CPU), halo=2):
            y[:, :, top : top + band.shape[2]] = band
        assert torch.equal(y, stage(x)[0])
