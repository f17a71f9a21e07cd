"""What the networks promise, whatever their weights."""

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.esc.blocks import ConvAttn
from esc_sr.families.esc.kernels import LargeKernel, symmetrize
from esc_sr.families.esc.presets import PRESETS
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.network import rows as rows_module

TINY: dict[str, Any] = {"dim": 16, "pdim": 8, "n_blocks": 2, "n_convattn": 2, "window": 8, "heads": 2}
VARIANTS = {
    "esc": ESCConfig(**TINY),
    "esc-x3": ESCConfig(**TINY, scale=3),
    "fp": ESCConfig(**TINY, first_expansion=1.5, ffn_norm=True, decomposed=True, skip="bicubic"),
    "xl": ESCConfig(**TINY, ffn_norm=True),
    "all-channels": ESCConfig(**{**TINY, "pdim": 16}),
    "real": ESCConfig(**TINY, scale=4, expansion=2.0, ffn_norm=True, skip="conv", upsampler="realesrgan"),
    "real-m-x1": ESCConfig(**TINY, scale=1, skip="conv", upsampler="nearest+conv", unshuffle=4),
    "real-m-x2": ESCConfig(**TINY, scale=2, skip="conv", upsampler="pixelshuffle", unshuffle=2),
    "real-m-x3": ESCConfig(**TINY, scale=3, skip="conv", upsampler="nearest+conv"),
    "dysample": ESCConfig(**TINY, scale=4, skip="conv", upsampler="dysample"),
    "dysampledirect": ESCConfig(**TINY, scale=2, skip="conv", upsampler="dysampledirect"),
    "only-attn": ESCConfig(**{**TINY, "n_convattn": 0, "pdim": 16}, n_attn=2, expansion=2.0),
    "only-convattn": ESCConfig(**{**TINY, "window": 1, "heads": 1}, n_attn=0, kernel=17),
    "own-lk-no-dk": ESCConfig(**TINY, own_kernels=True, dynamic=False),
    "own-lk": ESCConfig(**TINY, own_kernels=True),
}
TRACED = ("esc", "fp", "real", "real-m-x1", "dysample", "only-attn", "own-lk")
"""Each kind of layer once, for what takes seconds of each network."""


@pytest.fixture(params=VARIANTS)
def net(request: pytest.FixtureRequest) -> ESC:
    return make(VARIANTS[request.param])


def make(config: ESCConfig, dtype: torch.dtype = torch.float32) -> ESC:
    torch.manual_seed(0)
    model = ESC(config)
    roughen(model)
    return model.to(dtype).eval()


def roughen(model: nn.Module) -> None:
    """Make parameters that start at zero or one matter."""
    for name, parameter in model.named_parameters():
        if "estimator.2" in name or "bias_table" in name or "norm" in name or "scope" in name:
            nn.init.normal_(parameter, 0.5 if "norm" in name else 0.0, 0.3)


def picture(height: int, width: int, batch: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(
        batch, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).to(dtype)


def assert_equal(a: Tensor, b: Tensor) -> None:
    """Equal but for the rounding of float32 (1e-5 of the output's range) or float64 (1e-10)."""
    tolerance = 1e-10 if a.dtype == torch.float64 else 1e-5
    assert a.shape == b.shape
    assert (a - b).abs().max().item() <= tolerance * max(1.0, b.abs().max().item())


PARAMETERS = {
    ("esc", 2): 946_728,
    ("esc", 3): 955_383,
    ("esc", 4): 967_500,
    ("esc-light", 2): 603_600,
    ("esc-light", 3): 612_255,
    ("esc-light", 4): 624_372,
    ("esc-fp", 2): 523_675,
    ("esc-fp", 3): 530_170,
    ("esc-fp", 4): 539_263,
    ("esc-real", 4): 2_265_307,
    ("esc-real-m", 1): 2_296_987,
    ("esc-real-m", 2): 2_271_643,
    ("esc-real-m", 3): 2_228_379,
    ("esc-real-m", 4): 2_265_307,
    ("esc-real-xl", 4): 13_105_027,
    ("esc-xl", 2): 12_455_916,
    ("esc-xl", 3): 12_481_851,
    ("esc-xl", 4): 12_518_160,
}


@pytest.mark.parametrize(("name", "scale"), PARAMETERS)
def test_parameters_are_those_of_table_2(name: str, scale: int) -> None:
    with torch.device("meta"):
        model = ESC(PRESETS[name][scale])
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name, scale]


def test_esc_lte_parameters() -> None:
    with torch.device("meta"):
        model = EncoderLTE(LTEConfig(PRESETS["esc"][2]))
    assert sum(p.numel() for p in model.parameters()) == 1_433_631


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (3, 2), (8, 8), (7, 16), (33, 21)])
def test_any_size(net: ESC, height: int, width: int) -> None:
    x = picture(height, width)
    before = x.clone()
    with torch.no_grad():
        y = net(x)
    assert y.shape == (1, 3, net.config.scale * height, net.config.scale * width)
    assert y.isfinite().all()
    assert torch.equal(x, before)


def test_batch_equals_singles(net: ESC) -> None:
    x = picture(19, 13, batch=3)
    with torch.no_grad():
        together = net(x)
        singles = torch.cat([net(one[None]) for one in x])
    assert_equal(together, singles)


@torch.no_grad()
def test_row_bands_change_nothing(net: ESC, monkeypatch: pytest.MonkeyPatch) -> None:
    net = net.double()
    x = picture(117, 11, dtype=torch.float64)
    whole = net(x)
    monkeypatch.setattr(rows_module, "BAND_PIXELS", 1)
    assert_equal(net(x), whole)


def test_train_and_eval_give_the_same(net: ESC) -> None:
    x = picture(17, 22)
    with torch.no_grad():
        in_eval = net.eval()(x)
    in_train = net.train()(x)
    assert_equal(in_train.detach(), in_eval)


def test_gradients_flow_in_eval(net: ESC) -> None:
    x = picture(12, 15).requires_grad_()
    net(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().min() > 0
    missing = [
        n
        for n, p in net.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert missing == []


def test_copies_are_independent_and_equal(net: ESC) -> None:
    x = picture(9, 10)
    with torch.no_grad():
        y = net(x)
        twin = copy.deepcopy(net)
        thawed = pickle.loads(pickle.dumps(net))
        other = ESC(net.config)
        other.load_state_dict(net.state_dict())
        for p in net.parameters():
            p.zero_()
        for model in (twin, thawed, other.eval()):
            assert_equal(model(x), y)


def test_symmetrize_twice_is_once() -> None:
    kernel = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    once = symmetrize(kernel)
    assert_equal(symmetrize(once), once)
    assert not torch.allclose(kernel, once)


@pytest.mark.parametrize("name", TRACED)
def test_export(name: str) -> None:
    net, x = make(VARIANTS[name]), picture(20, 16)
    with torch.no_grad():
        program = torch.export.export(net, (x,))
        assert_equal(program.module()(x), net(x))


def test_moving_by_whole_windows_moves_the_result() -> None:
    """With dynamic kernels off and far from the edges, moving by a window moves the result."""
    net = make(ESCConfig(**{**TINY, "n_blocks": 1, "n_convattn": 1}), torch.float64)
    for name, parameter in net.named_parameters():
        if "estimator.2" in name:
            nn.init.zeros_(parameter)
    x = picture(112, 112, dtype=torch.float64)
    with torch.no_grad():
        y, moved, elsewhere = net(x), net(x.roll((8, 16), (2, 3))), net(x.roll((4, 16), (2, 3)))
    inside = (..., slice(96, 144), slice(96, 144))
    assert_equal(moved[inside], y.roll((16, 32), (2, 3))[inside])
    assert (elsewhere[inside] - y.roll((8, 32), (2, 3))[inside]).abs().max() > 1e-4


def test_sizes_that_do_not_fit_are_refused() -> None:
    for wrong in (
        {"heads": 3},
        {"kernel": 4},
        {"pdim": 99},
        {"skip": "cubic"},
        {"upsampler": "x"},
        {"scale": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ESCConfig(**{**TINY, **wrong})


@torch.no_grad()
def test_lte_any_target_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = EncoderLTE(LTEConfig(ESCConfig(**TINY), 16, (16,))).eval()
    x = picture(11, 9, batch=2)
    whole = model(x, (25, 40))
    assert whole.shape == (2, 3, 25, 40)
    monkeypatch.setattr("esc_sr.families.lte.network.QUERIES", 7)
    assert_equal(model(x, (25, 40)), whole)
    for size in ((1, 1), (11, 9), (5, 90)):
        assert model(x, size).shape == (2, 3, *size)


@torch.no_grad()
def test_lte_without_decoder_is_bilinear() -> None:
    model = EncoderLTE(LTEConfig(ESCConfig(**TINY), 16, (16,))).eval()
    for parameter in model.decoder.mlp[-1].parameters():
        parameter.zero_()
    x = picture(7, 10)
    bilinear = nn.functional.interpolate(x, (21, 30), mode="bilinear", align_corners=False)
    assert_equal(model(x, (21, 30)), bilinear)


def test_dynamic_kernel_starts_at_zero_except_in_fp() -> None:
    for name, config in VARIANTS.items():
        for layer in ESC(config).modules():
            if isinstance(layer, ConvAttn):
                start = layer.dynamic_kernel(torch.randn(1, config.pdim, 5, 5))
                assert (start is None) == (name == "own-lk-no-dk")
                assert start is None or bool(start.any()) == (name == "fp")


def test_large_kernel_starts_orthogonal() -> None:
    kernel = ESC(ESCConfig()).large_kernel
    assert isinstance(kernel, LargeKernel)
    rows = kernel.weight.detach().flatten(1)
    assert torch.allclose(rows @ rows.T, torch.eye(16), atol=1e-5)
    assert math.isclose(rows.norm(), 4, rel_tol=1e-5)
