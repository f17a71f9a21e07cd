"""Sizes that are wished for: which network, which reduction, what it is called."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from typer.testing import CliRunner

import esc_sr
from esc_sr.bicubic import resize
from esc_sr.cli.main import app
from esc_sr.errors import UsageError
from esc_sr.evaluate.scores import predict
from esc_sr.families.contract import Network
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.image import Picture, read_image, write_image
from esc_sr.upscaling import models
from esc_sr.upscaling.engine import Upscaler, upscale
from esc_sr.upscaling.frame import FRAME, framed
from esc_sr.upscaling.sizes import Size, wish
from esc_sr.weights import bundled_scales, save

TINY = ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)


def tiny(scale: int) -> ESC:
    torch.manual_seed(scale)
    return ESC(replace(TINY, scale=scale)).eval()


def lte() -> EncoderLTE:
    torch.manual_seed(0)
    return EncoderLTE(LTEConfig(TINY, hidden=8, mlp=(8,))).eval()


def noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(1, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The scales at which weights were loaded; what is loaded is tiny."""
    scales: list[int | None] = []

    def load(name: str, device: torch.device, scale: int | None, **engine: object) -> nn.Module:
        scales.append(scale)
        return tiny(scale or 2)

    monkeypatch.setattr(models, "load", load)
    return scales


@pytest.mark.parametrize(
    ("size", "target", "label", "shown"),
    [
        (Size("scale", 2), (60, 80), "2x", "x2"),
        (Size("scale", 2.5), (75, 100), "2.5x", "x2.5"),
        (Size("scale", 1), (30, 40), "1x", "x1"),
        (Size("width", 50), (38, 50), "50px", "50 px wide"),
        (Size("height", 50), (50, 67), "50px", "50 px high"),
        (Size("longest", 1920), (1440, 1920), "1920px", "1920 px at the longest side"),
        (Size("shortest", 100), (100, 133), "100px", "100 px at the shortest side"),
    ],
)
def test_a_wish_and_what_it_means(size: Size, target: tuple[int, int], label: str, shown: str) -> None:
    assert (size.target(30, 40), size.label, str(size)) == (target, label, shown)


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(0, 5000))
def test_a_wished_side_is_hit_exactly(height: int, width: int, more: int) -> None:
    longest = min(max(height, width) + more, 64 * max(height, width))
    assert max(Size("longest", longest).target(height, width)) == longest


@pytest.mark.parametrize(
    ("of", "value", "said"),
    [
        ("scale", 0.5, "between 1 and 64"),
        ("scale", 65, "between 1 and 64"),
        ("width", 0, "whole one from 1"),
        ("height", 10.5, "whole one from 1"),
        pytest.param("width", 10**400, "width beyond 2147483647 is no number", id="more than a float"),
        pytest.param("width", -(10**400), "say a whole one from 1 to 2147483647", id="less than a float"),
        ("longest", float("inf"), "whole one from 1"),
        ("shortest", float("nan"), "whole one from 1"),
        pytest.param("scale", 10**400, "between 1 and 64", id="a factor beyond floats"),
        ("depth", 10, "longest, shortest"),
    ],
)
def test_what_cannot_be_wished(of: str, value: float, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Size(of, value)


def test_one_wish_at_a_time() -> None:
    assert wish(scale=None, width=None) is None
    assert wish(scale=None, width=7) == Size("width", 7)
    with pytest.raises(UsageError, match="--scale and --width"):
        wish(scale=2, width=7)


def test_bundled_scales_are_those_of_an_open_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bundled_scales("esc-light") == [2, 3, 4]
    assert bundled_scales("esc-light-x3") == bundled_scales("no-such-name") == []
    monkeypatch.chdir(tmp_path)
    Path("esc-light").write_bytes(b"a file goes before a bundled name")
    assert bundled_scales("esc-light") == []


@pytest.mark.parametrize(("scale", "own"), [(1, 2), (2, 2), (2.001, 3), (2.5, 3), (3, 3), (3.7, 4)])
def test_the_next_larger_network_is_loaded(loaded: list[int | None], scale: float, own: int) -> None:
    told: list[str] = []
    pixels = noise(9, 11, 3)
    sr = Upscaler("esc-light", scale, report=told.append).upscale(pixels)
    size = round(9 * scale), round(11 * scale)
    assert loaded == [own]
    assert told[:-1] == ([] if own == scale else [f"esc-light x{own}, then reduced to x{scale:g}"])
    np.testing.assert_array_equal(sr, resize(upscale(pixels, tiny(own)), size))


def test_networks_are_loaded_once_and_when_they_are_wanted(loaded: list[int | None]) -> None:
    told: list[str] = []
    upscaler = Upscaler("esc-light", Size("width", 24), report=told.append)
    assert loaded == []
    for width in (12, 8, 10, 9, 6, 12):
        assert upscaler.upscale(noise(5, width)).shape[1] == 24
    assert loaded == [2, 3, 4]
    assert "esc-light x3, then reduced to 24 x 12" in told
    with pytest.raises(UsageError, match="esc-light enlarges x4 at most, not x4.8"):
        upscaler.upscale(noise(5, 5))


def test_more_than_the_largest_is_refused_before_anything_is_loaded(loaded: list[int | None]) -> None:
    with pytest.raises(UsageError, match="x4 at most, not x4.1") as caught:
        Upscaler("esc-light", 4.1)
    assert "\n" not in str(caught.value)
    assert loaded == []


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_channel_is_reduced(channels: int, dtype: Any) -> None:
    pixels = noise(12, 10, channels, dtype=dtype)
    expected = resize(upscale(pixels, tiny(2)), (18, 15))
    np.testing.assert_array_equal(upscale(pixels, tiny(2), scale=1.5), expected)


def test_floats_are_reduced_without_rounding() -> None:
    pixels = noise(12, 10, 3).astype(np.float32) / 200  # up to 1.275
    sr = upscale(pixels, tiny(2), scale=1.5)
    whole = torch.from_numpy(upscale(pixels, tiny(2))).permute(2, 0, 1)
    expected = resize(whole, (18, 15)).clamp(0, float(pixels.max())).permute(1, 2, 0)
    torch.testing.assert_close(torch.from_numpy(sr), expected)
    assert sr.max() > 1 and np.abs(sr * 255 - np.rint(sr * 255)).max() > 0.1


@pytest.mark.parametrize("shape", [(3, 9, 8), (2, 3, 9, 8)])
def test_tensors_are_reduced(shape: tuple[int, ...]) -> None:
    lr = torch.rand(shape)
    expected = resize(upscale(lr, tiny(2)), (14, 12)).clamp(0, 1)
    torch.testing.assert_close(upscale(lr, tiny(2), scale=1.5), expected)


@pytest.mark.parametrize("scale", [1, 1.37, 2.5, 4.9])
def test_arbitrary_scale_network_gives_any_size_at_once(scale: float) -> None:
    told: list[str] = []
    lr, size = torch.rand(1, 3, 9, 14), (round(9 * scale), round(14 * scale))
    with torch.no_grad():
        expected = lte()(lr, size).clamp(0, 1)
    torch.testing.assert_close(Upscaler(lte(), scale, report=told.append, frame=0).upscale(lr), expected)
    assert len(told) == 1 and "reduced" not in told[0]


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_arbitrary_scale_network_sees_a_frame(scale: int) -> None:
    lr, border = torch.rand(1, 3, 9, 14), FRAME * scale
    size = (9 * scale + 2 * border, 14 * scale + 2 * border)
    with torch.no_grad():
        expected = lte()(framed(lr), size).clamp(0, 1)[:, :, border:-border, border:-border]
    torch.testing.assert_close(Upscaler(lte(), scale).upscale(lr), expected, atol=1e-5, rtol=0)


def test_arbitrary_scale_network_hits_a_width() -> None:
    assert esc_sr.upscale(noise(9, 14, 4), lte(), Size("width", 33)).shape == (21, 33, 4)


def test_self_ensemble_turns_a_real_size() -> None:
    lr, network = torch.rand(1, 3, 7, 12), lte()
    turned = upscale(lr.rot90(1, (-2, -1)), network, 2.3, self_ensemble=True)
    expected = upscale(lr, network, 2.3, self_ensemble=True)
    torch.testing.assert_close(turned.rot90(-1, (-2, -1)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("network", [tiny(3), lte()], ids=["reduced", "arbitrary"])
def test_flat_alpha_stays_flat(network: nn.Module) -> None:
    pixels = noise(30, 40, 4)
    pixels[:, :20, 3], pixels[:, 20:, 3] = 77, 255
    alpha = upscale(pixels, network, scale=2.5)[:, :, 3]
    assert np.unique(alpha[:, :46]).tolist() == [77]
    assert np.unique(alpha[:, 54:]).tolist() == [255]


def test_a_checkpoint_is_reduced_from_its_own_scale(tmp_path: Path) -> None:
    save(tiny(3), tmp_path / "three.safetensors")
    pixels = noise(8, 9, 3)
    expected = resize(upscale(pixels, tiny(3)), (16, 18))
    np.testing.assert_array_equal(upscale(pixels, tmp_path / "three.safetensors", 2), expected)


@pytest.mark.parametrize("network", [tiny(2), lte()], ids=["reduced", "arbitrary"])
@pytest.mark.parametrize("options", [{}, {"self_ensemble": True}])
def test_progress_to_any_size(network: nn.Module, options: dict[str, Any]) -> None:
    heard: list[float] = []
    Upscaler(network, 1.3, **options).upscale(noise(20, 31, 4), heard.append)
    assert heard == sorted(heard) and len(heard) > 10
    assert heard[-1] == pytest.approx(1)


def test_measuring_never_reduces() -> None:
    with pytest.raises(UsageError, match="x3, not x2"):
        predict(tiny(3), noise(8, 8, 3), 2)


class Repeat(Network):
    """Repeats pixels; the pictures that come out are known."""

    config = replace(TINY, scale=3)

    def forward(self, lr: Tensor) -> Tensor:
        return torch.kron(lr, lr.new_ones(3, 3))


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["upscale", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr


def test_the_command_line_takes_sizes(
    tmp_path: Path, loaded: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, width in (("a.png", 12), ("b.png", 8), ("small.png", 5)):
        write_image(Picture(noise(4, width, 3), dpi=(300.0, 300.0)), name)
    code, out, err = run("a.png", "-s", "2.5", "--device", "cpu")
    assert (code, read_image("a_2.5x.png").pixels.shape) == (0, (10, 30, 3))
    assert "a.png 12x4 -> a_2.5x.png 30x10, esc-light x2.5, cpu, " in out
    assert "esc-sr: esc-light x3, then reduced to x2.5\n" in err
    loaded.clear()
    code, out, err = run("a.png", "b.png", "small.png", "--width", "24", "-o", "out/")
    assert (code, loaded) == (1, [2, 3])
    assert [read_image(f"out/{name}_24px.png").pixels.shape[1] for name in "ab"] == [24, 24]
    assert "error: small.png: esc-light enlarges x4 at most, not x4.8; " in err
    code, _, err = run("a.png", "--longest", "6")
    assert (code, err.count("\n")) == (2, 1) and "a.png: 12 x 4 to 6 px at the longest side" in err
    for wrong, said in ((["-s", "2", "--height", "9"], "--scale and --height"), (["-s", "0.5"], "enlarged")):
        code, _, err = run("a.png", *wrong)
        assert (code, err.count("\n")) == (2, 1) and said in err


def test_sizes_in_the_metadata_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "load", lambda name, device, scale, **engine: Repeat())
    xmp = b'<x xmlns:tiff="t" tiff:ImageWidth="12" tiff:ImageLength="4"/>'
    write_image(Picture(np.full((4, 12, 3), 99, np.uint8), xmp=xmp), "a.tif")
    assert run("a.tif", "--height", "10", "-n", "esc-light", "-q")[0] == 0
    larger = read_image("a_10px.tif")
    assert np.unique(larger.pixels).tolist() == [99]
    assert larger.xmp and b'tiff:ImageWidth="30" tiff:ImageLength="10"' in larger.xmp
