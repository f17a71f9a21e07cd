"""The U-Net discriminator: its size, the pictures it takes, and its spectral norm."""

import pytest
import torch
from torch.nn.utils.parametrize import ParametrizationList

from esc_sr.network.discriminator import UNetDiscriminator


def test_it_has_the_published_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in UNetDiscriminator().parameters()) == 4_376_897


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (9, 15), (31, 34)])
def test_one_logit_per_pixel_and_a_gradient_for_every_picture(size: tuple[int, int]) -> None:
    model = UNetDiscriminator(width=4)
    x = torch.rand(2, 3, *size, requires_grad=True)
    logits = model(x)
    assert logits.shape == (2, 1, *size)
    logits.sum().backward()
    assert x.grad is not None and (x.grad.abs().sum((1, 2, 3)) > 0).all()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_pictures_too_small_to_be_halved_three_times_are_refused() -> None:
    with pytest.raises(ValueError, match="picture of 7 x 20 px, at least 8 needed"):
        UNetDiscriminator(width=4)(torch.rand(1, 3, 20, 7))


def test_a_picture_is_seen_at_every_level() -> None:
    torch.manual_seed(0)
    model = UNetDiscriminator(width=4).eval()
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    model(x)[0, 0, 32, 32].backward()
    assert x.grad is not None
    reach = x.grad.abs().amax((0, 1)).nonzero()
    assert (reach.amax(0) - reach.amin(0)).min() > 30  # of px; without the lower levels it would be 8


def test_inner_convolutions_have_spectral_norm_1_once_trained() -> None:
    torch.manual_seed(0)
    model = UNetDiscriminator(width=4)
    for parameter in model.parameters():
        parameter.data *= 5
    for _ in range(30):
        model(torch.rand(1, 3, 8, 8))
    model.eval()
    inner = [module for module in model.modules() if "parametrizations" in module._modules]
    assert len(inner) == 8
    for conv in inner:
        assert isinstance(conv.weight, torch.Tensor)
        assert torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)
    for free in (model.first, model.last):
        assert torch.linalg.matrix_norm(free.weight.flatten(1), 2) > 1.5


def test_the_norms_follow_in_training_only_and_are_saved() -> None:
    torch.manual_seed(0)
    model, x = UNetDiscriminator(width=4), torch.rand(1, 3, 8, 8)
    vectors = [module for module in model.modules() if isinstance(module, ParametrizationList)]
    assert len(vectors) == 8

    def state() -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in model.state_dict().items()}

    model.eval()
    before = state()
    model(x)
    torch.testing.assert_close(state(), before, rtol=0, atol=0)
    model.train()
    model(x)
    assert any(not torch.equal(value, before[name]) for name, value in state().items())
    other = UNetDiscriminator(width=4)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.eval()(x), model.eval()(x), rtol=0, atol=0)
