"""The VGG19 feature loss: whole and partial files, and those it refuses."""

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from esc_sr.errors import WeightsError
from esc_sr.train.perceptual import WEIGHTS, PerceptualLoss

# torchvision's numbering of the sixteen convolutions, and their channels
PLACES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
CHANNELS = (64, 64, 128, 128, *(256,) * 4, *(512,) * 8)


def vgg(count: int = 16) -> dict[str, Tensor]:
    """The first convolutions, each one number that keeps the brightness: in memory it takes no room."""
    state = {}
    for place, dim, out in list(zip(PLACES, (3, *CHANNELS), CHANNELS, strict=False))[:count]:
        state[f"features.{place}.weight"] = torch.tensor(1 / (9 * dim)).expand(out, dim, 3, 3)
        state[f"features.{place}.bias"] = torch.tensor(0.1).expand(out)
    return state


def random_vgg(count: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.1 * torch.randn(value.shape, generator=generator) for name, value in vgg(count).items()}


def saved(path: Path, state: dict[str, Tensor]) -> Path:
    state = {name: value.contiguous() for name, value in state.items()}  # a file has all its numbers
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return path


def pictures(side: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, side, side, generator=generator), torch.rand(
        1, 3, side, side, generator=generator
    )


def test_the_whole_file_gives_all_five_layers_and_ignores_the_classifier(tmp_path: Path) -> None:
    state = {name: value.half() for name, value in vgg().items()}  # 40 MB
    state["classifier.0.weight"] = torch.ones(2, 2)
    lines: list[str] = []
    loss = PerceptualLoss(saved(tmp_path / "vgg19.pth", state), lines.append)
    assert loss.layers == WEIGHTS
    assert lines == []
    assert sum(isinstance(layer, torch.nn.MaxPool2d) for layer in loss.vgg) == 4
    assert len(loss.vgg) == 35  # conv5_4 is the last
    x, target = (torch.full((1, 3, 32, 32), level) for level in (0.2, 0.8))
    assert loss(x, target) > 0
    assert loss(x, x) == 0


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_the_first_layers_compares_those_and_says_so(tmp_path: Path, suffix: str) -> None:
    state = random_vgg(5)  # to conv3_1
    lines: list[str] = []
    loss = PerceptualLoss(saved(tmp_path / f"part{suffix}", state), lines.append)
    assert loss.layers == {"conv1_2": 0.1, "conv2_2": 0.1}
    assert len(lines) == 1
    assert "ends at conv3_1" in lines[0] and lines[0].endswith("without conv3_4, conv4_4, conv5_4")

    def features(picture: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        h = (picture - mean[:, None, None]) / std[:, None, None]
        out = []
        for place in PLACES[:4]:
            if place == 5:
                h = F.max_pool2d(h, 2)
            h = F.conv2d(h, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1)
            out.append(h)
            h = h.relu()
        return out[1], out[3]

    x, target = pictures()
    expected = sum(0.1 * (a - b).abs().mean() for a, b in zip(features(x), features(target), strict=True))
    torch.testing.assert_close(loss(x, target), expected)


def test_gradients_reach_the_picture_alone_and_autocast_does_not_matter(tmp_path: Path) -> None:
    loss = PerceptualLoss(saved(tmp_path / "vgg.pth", random_vgg(4)))
    x, target = (picture.requires_grad_() for picture in pictures())
    plain = loss(x, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(x, target), plain, rtol=0, atol=0)
    plain.backward()
    assert x.grad is not None and x.grad.abs().max() > 0
    assert target.grad is None
    assert not loss.training
    assert all(not parameter.requires_grad for parameter in loss.parameters())


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (vgg(1), "has no features.2.weight"),
        ({"layer.weight": torch.ones(2)}, "has no features.2.weight"),
        ({name: value for name, value in vgg(4).items() if "features.5" not in name}, "lacks some between"),
        ({name: value for name, value in vgg(4).items() if name != "features.7.bias"}, "features.7 is no"),
        ({**vgg(2), "features.2.weight": torch.ones(64)}, "features.2 is no 3x3 convolution of 64 to 64"),
        (
            {**vgg(2), "features.2.bias": torch.full((64,), float("nan"))},
            "damaged, not all is a finite number",
        ),
    ],
)
def test_other_weights_are_refused(tmp_path: Path, state: dict[str, Tensor], said: str) -> None:
    path = saved(tmp_path / "other.pth", state)
    with pytest.raises(WeightsError, match=said) as caught:
        PerceptualLoss(path)
    assert_helps(str(caught.value), path)


def test_missing_and_truncated_files_are_one_line_that_helps(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pth"
    with pytest.raises(WeightsError, match="cannot be read") as caught:
        PerceptualLoss(missing)
    assert_helps(str(caught.value), missing)
    for suffix in (".pth", ".safetensors"):
        path = saved(tmp_path / f"half{suffix}", random_vgg(2))
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(WeightsError, match="damaged") as caught:
            PerceptualLoss(path)
        assert_helps(str(caught.value), path)


def assert_helps(message: str, path: Path) -> None:
    assert message.startswith(str(path))
    assert "vgg19-dcbb9e9d.pth" in message
    assert "\n" not in message


def test_a_real_file_sees_a_blurred_picture_as_further_away_than_a_brighter_one() -> None:
    file = os.environ.get("ESC_SR_VGG19")
    if not file:
        pytest.skip("needs VGG19's weights: set ESC_SR_VGG19 to their file")
    loss = PerceptualLoss(Path(file))
    x = torch.zeros(1, 3, 32, 32)
    x[..., ::4] = x[..., 1::4] = 0.8
    blurred = F.avg_pool2d(x, 5, 1, 2, count_include_pad=False)
    brighter = x + (blurred - x).square().mean().sqrt()  # as far in PSNR
    assert loss(blurred, x) > 1.5 * loss(brighter, x) > 0
