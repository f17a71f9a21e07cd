"""The losses of the GAN stage, against their definitions."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from esc_sr.train.losses import GeneratorLoss, discriminator_loss
from esc_sr.train.perceptual import PerceptualLoss


class Judge(nn.Module):
    """The mean of each picture, times a weight, as its only logit."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x.mean((1, 2, 3), keepdim=True)


@pytest.fixture(scope="module")
def perceptual(tmp_path_factory: pytest.TempPathFactory) -> PerceptualLoss:
    path: Path = tmp_path_factory.mktemp("vgg") / "vgg.pth"
    torch.manual_seed(0)
    shapes = {0: (64, 3), 2: (64, 64)}
    state = {f"features.{i}.weight": 0.1 * torch.randn(*shape, 3, 3) for i, shape in shapes.items()}
    torch.save({**state, "features.0.bias": torch.zeros(64), "features.2.bias": torch.zeros(64)}, path)
    return PerceptualLoss(path)


def test_the_generator_pays_for_distance_features_and_being_found_out(perceptual: PerceptualLoss) -> None:
    sr, target = torch.full((2, 3, 8, 8), 0.25, requires_grad=True), torch.full((2, 3, 8, 8), 0.75)
    total, parts = GeneratorLoss(perceptual)(sr, target, Judge(4.0))
    assert list(parts) == ["l1", "perceptual", "adversarial"]
    assert parts["l1"].item() == pytest.approx(0.5)
    torch.testing.assert_close(parts["perceptual"], perceptual(sr, target).detach())
    assert parts["adversarial"].item() == pytest.approx(0.1 * math.log(1 + math.exp(-1)))
    torch.testing.assert_close(total.detach(), torch.stack(list(parts.values())).sum())
    assert all(not part.requires_grad for part in parts.values())
    total.backward()
    assert sr.grad is not None and sr.grad.abs().min() > 0


def test_each_part_counts_as_much_as_its_weight_says(perceptual: PerceptualLoss) -> None:
    sr, target = torch.full((1, 3, 8, 8), 0.25), torch.full((1, 3, 8, 8), 0.75)
    _, once = GeneratorLoss(perceptual)(sr, target, Judge())
    _, other = GeneratorLoss(perceptual, 2, 3, 0)(sr, target, Judge())
    torch.testing.assert_close(other["l1"], 2 * once["l1"])
    torch.testing.assert_close(other["perceptual"], 3 * once["perceptual"])
    assert other["adversarial"] == 0


def test_the_discriminator_pays_for_both_kinds_of_mistakes() -> None:
    real, fake = torch.ones(2, 3, 4, 4), torch.full((2, 3, 4, 4), -0.5, requires_grad=True)
    loss = discriminator_loss(Judge(2.0), real, fake)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1)))
    assert discriminator_loss(Judge(0.0), real, fake).item() == pytest.approx(2 * math.log(2))


def test_the_discriminators_step_leaves_the_generator_alone() -> None:
    judge, fake = Judge(), torch.rand(1, 3, 4, 4, requires_grad=True)
    discriminator_loss(judge, torch.rand(1, 3, 4, 4), fake).backward()
    assert fake.grad is None
    assert judge.weight.grad is not None


def test_losses_are_float32_under_autocast(perceptual: PerceptualLoss) -> None:
    sr, target = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    judge = nn.Conv2d(3, 1, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert GeneratorLoss(perceptual)(sr.bfloat16(), target, judge)[0].dtype == torch.float32
        assert discriminator_loss(judge, target, sr).dtype == torch.float32
