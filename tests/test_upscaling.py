"""The engine on tiny networks: kinds of picture, precision, self-ensemble, devices, memory."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esc_sr.errors import DeviceError, UsageError, WeightsError
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.image import Picture, write_image
from esc_sr.machine.device import pick_device
from esc_sr.machine.memory import enough_memory
from esc_sr.upscaling.engine import Upscaler, upscale
from esc_sr.upscaling.frame import FRAME, framed
from esc_sr.upscaling.sizes import Size
from esc_sr.weights import save

TINY = ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)


def tiny(scale: int = 2) -> ESC:
    torch.manual_seed(scale)
    return ESC(replace(TINY, scale=scale)).eval()


@pytest.fixture(scope="module")
def model() -> ESC:
    return tiny()


def noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


class Nearest(nn.Module):
    """Repeats pixels, times a factor for each channel: what comes out is known."""

    def __init__(self, factor: tuple[float, ...] = (1.0,), scale: int = 2) -> None:
        super().__init__()
        self.factor = torch.tensor(factor)[:, None, None]
        self.scale = scale
        self.calls = 0

    def forward(self, lr: Tensor) -> Tensor:
        self.calls += 1
        return lr.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2) * self.factor


def seen(model: ESC, lr: Tensor) -> Tensor:
    """What a network makes of a picture (B, 3, H, W) inside a frame."""
    border = FRAME * model.config.scale
    with torch.no_grad():
        return model(framed(lr))[:, :, border:-border, border:-border]


def repeated(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(2, 0).repeat(2, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (1, 1, 3)])
def test_levels_survive_exactly(shape: tuple[int, ...], dtype: Any) -> None:
    pixels = noise(*shape, dtype=dtype).clip(1)  # nothing is wholly transparent
    sr = upscale(pixels, Nearest(), scale=2)
    assert sr.dtype == dtype
    np.testing.assert_array_equal(sr, repeated(pixels))


def test_every_16_bit_level_survives() -> None:
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(upscale(pixels, Nearest(), scale=2), repeated(pixels))


def test_array_is_the_rounded_and_clamped_network_output(model: ESC) -> None:
    pixels = noise(9, 12, 3)
    sr = seen(model, torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)[0]
    assert sr.min() < 0 or sr.max() > 1  # there is something to clamp
    expected = (sr.clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(upscale(pixels, model), expected)


def test_out_of_range_is_clamped_not_wrapped() -> None:
    pixels = np.full((2, 2, 3), 200, np.uint8)
    sr = upscale(pixels, Nearest((2.0, 1.0, -1.0)), scale=2)
    np.testing.assert_array_equal(sr[0, 0], [255, 200, 0])


def test_grey_is_the_luma_of_the_three_channels() -> None:
    grey = np.full((3, 3), 100, np.uint8)
    sr = upscale(grey, Nearest((1.0, 0.5, 0.0)), scale=2)
    assert np.unique(sr).tolist() == [round(100 * (0.299 + 0.5 * 0.587))]


def test_constant_alpha_stays_and_costs_nothing() -> None:
    pixels = noise(4, 5, 4)
    pixels[:, :, 3] = 77
    network = Nearest((0.5,))
    sr = upscale(pixels, network, scale=2)
    assert np.unique(sr[:, :, 3]).tolist() == [77]
    assert network.calls == 1


def test_alpha_goes_through_the_network_apart_from_colour(model: ESC) -> None:
    pixels = noise(10, 8, 4).clip(1)
    sr = upscale(pixels, model)
    np.testing.assert_array_equal(sr[:, :, :3], upscale(pixels[:, :, :3], model))
    np.testing.assert_array_equal(sr[:, :, 3], upscale(pixels[:, :, 3], model))


def test_input_array_is_not_written_and_may_be_read_only(model: ESC) -> None:
    pixels = noise(6, 6, 3)
    before = pixels.copy()
    pixels.flags.writeable = False
    upscale(pixels, model)
    np.testing.assert_array_equal(pixels, before)


def test_picture_keeps_what_it_carries(model: ESC) -> None:
    picture = Picture(noise(6, 5, 3), icc=b"profile", exif=b"exif", dpi=(300.0, 300.0))
    sr = upscale(picture, model)
    assert sr.pixels.shape == (12, 10, 3)
    assert (sr.icc, sr.exif, sr.dpi) == (b"profile", b"exif", (300.0, 300.0))


@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 3, 6, 5), (2, 3, 6, 5)])
def test_tensor_in_tensor_out(model: ESC, shape: tuple[int, ...]) -> None:
    lr = torch.rand(shape)
    before = lr.clone()
    sr = upscale(lr, model)
    assert sr.shape == (*shape[:-2], 12, 10)
    expected = seen(model, lr.reshape(-1, 3, 6, 5)).clamp(0, 1)
    torch.testing.assert_close(sr.reshape(expected.shape), expected)
    assert torch.equal(lr, before)
    assert not sr.is_inference()


def test_a_network_that_returns_its_input_does_not_change_it() -> None:
    lr = torch.full((1, 3, 2, 2), 1.5)
    assert upscale(lr, nn.Identity(), scale=1).max() == 1
    with pytest.raises(UsageError, match="Upsample makes .*, which is not x2; give the module's own scale"):
        upscale(lr, nn.Upsample(scale_factor=3), scale=2)
    assert lr.min() == 1.5


def test_tensor_keeps_its_type(model: ESC) -> None:
    assert upscale(torch.rand(3, 4, 4, dtype=torch.float64), model).dtype == torch.float64
    assert upscale(torch.rand(3, 4, 4, dtype=torch.float16), model).dtype == torch.float16


def test_self_ensemble_is_the_mean_over_flips_and_rotations(model: ESC) -> None:
    lr = torch.rand(1, 3, 9, 6)
    views = []
    for transpose in (False, True):
        for flips in ([], [-1], [-2], [-2, -1]):
            view = (lr.mT if transpose else lr).flip(flips)
            sr = seen(model, view).flip(flips)
            views.append(sr.mT if transpose else sr)
    expected = torch.stack(views).mean(0).clamp(0, 1)
    torch.testing.assert_close(upscale(lr, model, self_ensemble=True), expected, atol=1e-6, rtol=0)
    assert not torch.allclose(upscale(lr, model), expected, atol=1e-4)


def test_self_ensemble_commutes_with_rotation(model: ESC) -> None:
    lr = torch.rand(1, 3, 7, 6)
    turned = upscale(lr.rot90(1, (-2, -1)), model, self_ensemble=True)
    torch.testing.assert_close(turned.rot90(-1, (-2, -1)), upscale(lr, model, self_ensemble=True))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_and_leaves_the_model_alone(model: ESC, precision: str) -> None:
    lr = torch.rand(1, 3, 12, 10)
    state = copy.deepcopy(model.state_dict())
    sr = upscale(lr, model, precision=precision)
    difference = (sr - upscale(lr, model)).abs().max()
    assert 0 < difference < 0.03
    assert sr.dtype == torch.float32
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name


class Overflowing(nn.Module):
    """A convolution whose products overflow float16 and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        nn.init.constant_(self.conv.weight, 6e4)

    def forward(self, lr: Tensor) -> Tensor:
        return (self.conv(lr) / 3.6e5).repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_overflow_in_half_precision_is_done_again_and_told_once() -> None:
    told: list[str] = []
    upscaler = Upscaler(Overflowing(), scale=2, precision="fp16", notify=told.append)
    for _ in range(2):
        sr = upscaler.upscale(np.full((2, 2, 3), 200, np.uint8))
        assert np.unique(sr).tolist() == [100]
    assert told == ["fp16 overflowed in the network; done again in fp32"]


def test_overflow_warns_in_python() -> None:
    with pytest.warns(UserWarning, match="done again in fp32"):
        upscale(np.full((2, 2, 3), 255, np.uint8), Overflowing(), scale=2, precision="fp16")


def test_damaged_weights_never_give_a_black_picture() -> None:
    broken = tiny()
    nn.init.constant_(broken.tail.weight, float("nan"))
    with pytest.raises(WeightsError, match="NaN"):
        upscale(noise(4, 4, 3), broken)


def test_a_network_in_half_precision_is_used_as_it_is() -> None:
    lr = torch.rand(1, 3, 8, 8)
    difference = (upscale(lr, tiny().bfloat16()) - upscale(lr, tiny())).abs().max()
    assert 0 < difference < 0.05


def test_arbitrary_scale_network_takes_any_whole_scale() -> None:
    lte = EncoderLTE(LTEConfig(TINY, hidden=8, mlp=(8,))).eval()
    pixels = noise(5, 6, 3)
    assert upscale(pixels, lte).shape == (10, 12, 3)
    assert upscale(pixels, lte, scale=3, precision="bf16").shape == (15, 18, 3)


def test_model_by_path_tells_its_scale(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save(tiny(3), path)
    pixels = noise(4, 5)
    expected = upscale(pixels, tiny(3))
    np.testing.assert_array_equal(upscale(pixels, path), expected)
    np.testing.assert_array_equal(upscale(pixels, str(path), scale=3), expected)
    with pytest.raises(UsageError, match="x3 at most"):
        upscale(pixels, path, scale=4)


def test_picture_by_path(tmp_path: Path, model: ESC) -> None:
    pixels = noise(4, 5, 3)
    write_image(Picture(pixels), tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(upscale(path, model), upscale(pixels, model))


@pytest.mark.parametrize(
    ("image", "options", "said"),
    [
        (noise(4, 4, 3), {"scale": 3}, "ESC enlarges x2 at most, not x3"),
        (noise(4, 4, 3), {"scale": 0}, "between 1 and 64"),
        (noise(4, 4, 3), {"scale": 0.99}, "only enlarged"),
        (noise(4, 4, 3), {"scale": float("nan")}, "between 1 and 64"),
        (noise(4, 4, 3), {"model": nn.Identity(), "scale": 2.5}, "pass scale=, a whole one"),
        (noise(4, 4, 3), {"scale": Size("width", 3)}, "4 x 4 to 3 px wide is x0.75"),
        (noise(4, 4, 3), {"scale": Size("width", 9)}, "at most, not x2.25"),
        (noise(4, 4, 3), {"precision": "fp8"}, "fp32, bf16, fp16"),
        (noise(4, 4, 3), {"device": "toaster"}, "auto, cpu"),
        (noise(4, 4, 3), {"model": nn.Identity()}, "pass scale="),
        (noise(4, 4, 5), {}, "1 to 4"),
        (noise(0, 4, 3), {}, "uint8 or uint16"),
        (np.zeros((4, 4, 3), np.float16), {}, "uint8 or uint16"),
        (torch.zeros(4, 4, 3), {}, r"\(3, H, W\)"),
        (torch.zeros(3, 0, 4), {}, r"\(3, H, W\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), {}, "floating"),
        ([[1, 2], [3, 4]], {}, "list"),
    ],
)
def test_refusals_say_what_is_allowed(model: ESC, image: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        upscale(image, **{"model": model, **options})
    assert "\n" not in str(caught.value)


def test_auto_is_the_accelerator_or_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(DeviceError, match="there is 1 x cpu"):
        pick_device("cuda")
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda")
    )
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", lambda size, device: tried.append(device))
    tried: list[torch.device] = []
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="2 x cuda"):
        pick_device("cuda:2")
    with pytest.raises(DeviceError):
        pick_device("mps")
    assert tried == [torch.device("cuda"), torch.device("cuda", 1)]


def test_a_device_that_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(size: int, device: torch.device) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy\nFor debugging")

    monkeypatch.setattr(torch, "empty", refuse)
    with pytest.raises(DeviceError, match="device cpu cannot be used: .* are busy$"):
        pick_device("cpu")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_large_a_picture_is_one_line(error: Exception) -> None:
    with pytest.raises(DeviceError, match="^big.png: not enough memory.*try") as caught:
        with enough_memory("big.png"):
            raise error
    assert "\n" not in str(caught.value)


def test_a_real_bug_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"), enough_memory("big.png"):
        raise RuntimeError("size mismatch")


def test_the_allocator_of_this_machine_is_understood() -> None:
    class Hungry(nn.Module):
        def forward(self, lr: Tensor) -> Tensor:
            return lr.new_empty(2**60)

    with pytest.raises(DeviceError, match="not enough memory"):
        upscale(noise(2, 2, 3), Hungry(), scale=2)
