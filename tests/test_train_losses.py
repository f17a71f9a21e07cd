"""The losses of the GAN stage, against their definitions."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from esc_sr.data.degrade import sharpen
from esc_sr.train.checkpoint import State
from esc_sr.train.losses import Adversarial, Distance, discriminator_loss
from esc_sr.train.perceptual import PerceptualLoss
from esc_sr.train.recipes import RealGAN
from esc_sr.train.step import step


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


def test_a_distance_is_to_the_picture_or_to_the_sharpened_one() -> None:
    hr = torch.zeros(1, 3, 16, 16)
    hr[..., 8:] = 0.8
    assert Distance("l1")(hr, hr) == {"l1": 0}
    assert Distance("mse", sharpened=True)(sharpen(hr), hr) == {"mse": 0}
    assert Distance("l1", sharpened=True)(hr, hr)["l1"] > 0.01


def test_the_network_pays_for_distance_features_and_being_found_out(perceptual: PerceptualLoss) -> None:
    sr, hr = torch.full((2, 3, 8, 8), 0.25, requires_grad=True), torch.full((2, 3, 8, 8), 0.75)
    losses = Adversarial(perceptual, Judge(4.0))(sr, hr)
    assert list(losses) == ["l1", "perceptual", "adversarial", "discriminator"]
    assert losses["l1"].item() == pytest.approx(0.5)
    torch.testing.assert_close(losses["perceptual"], perceptual(sr, hr))
    assert losses["adversarial"].item() == pytest.approx(0.1 * math.log(1 + math.exp(-1)))
    other = Adversarial(perceptual, Judge(4.0), (2, 3, 0), "mse")(sr, hr)
    assert other["mse"].item() == pytest.approx(0.5)
    torch.testing.assert_close(other["perceptual"], 3 * losses["perceptual"])
    assert other["adversarial"] == 0


def test_neither_of_the_two_learns_from_the_others_loss(perceptual: PerceptualLoss) -> None:
    hr = torch.rand(2, 3, 8, 8)
    pulls = []
    for names in (["l1", "perceptual", "adversarial"], ["discriminator"], []):
        sr = (hr / 2).requires_grad_()
        objective = Adversarial(perceptual, Judge(4.0))
        losses = objective(sr, hr)
        sum(losses[name] for name in names or losses).backward()
        pulls.append((sr.grad, objective.discriminator.weight.grad))
    (sr_pull, none), (nothing, judge_pull), both = pulls
    assert none is None and nothing is None
    torch.testing.assert_close((sr_pull, judge_pull), both)
    assert sr_pull is not None and sr_pull.abs().min() > 0
    assert judge_pull is not None and judge_pull != 0


def test_the_frozen_network_is_no_part_of_the_state(perceptual: PerceptualLoss) -> None:
    objective = Adversarial(perceptual, Judge())
    assert list(objective.state_dict()) == ["discriminator.weight"]
    assert len(list(objective.parameters())) == 1


def test_a_step_moves_both_or_neither(perceptual: PerceptualLoss) -> None:
    model, ema = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    objective = Adversarial(perceptual, Judge())
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()])
    state = State(model, ema, objective, optimizer)

    def values() -> list[Tensor]:
        return [value.detach().clone() for part in (model, ema, objective) for value in part.parameters()]

    before = values()
    hr = torch.rand(2, 3, 8, 8)
    for bad in (float("nan"), float("inf")):
        poisoned = hr.clone()
        poisoned[1, 0, 3, 3] = bad
        assert step(state, model, (hr, poisoned), RealGAN(), 1e-4, "fp32") is None
    torch.testing.assert_close(values(), before, rtol=0, atol=0)
    losses = step(state, model, (hr, hr), RealGAN(), 1e-4, "fp32")
    assert losses is not None and list(losses) == ["l1", "perceptual", "adversarial", "discriminator"]
    assert not any(torch.equal(old, new) for old, new in zip(before, values(), strict=True))


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
