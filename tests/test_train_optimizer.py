"""Muon for the matrices inside a network, AdamW for the rest."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from esc_sr.errors import UsageError
from esc_sr.families.esc import ESC
from esc_sr.families.esc.presets import PRESETS
from esc_sr.train import recipes
from esc_sr.train.losses import Distance
from esc_sr.train.optimizer import MuonAdamW, build_optimizer, inner_matrices, orthogonal

RECIPE = replace(recipes.Classic(), optimizer="muon", lr=1e-3, muon_lr=5e-3, weight_decay=0.01)


def network() -> ESC:
    torch.manual_seed(1)
    return ESC(replace(PRESETS["esc-light"][2], n_blocks=1))


def give_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)


@pytest.mark.parametrize("shape", [(64, 128), (160, 64), (64, 576), (192, 64)])
def test_orthogonal_keeps_directions_and_evens_lengths(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    found = orthogonal(matrices)
    for matrix, turned in zip(matrices, found, strict=True):
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        lengths = torch.linalg.svdvals(turned)
        assert 0.6 < lengths.min() and lengths.max() < 1.25
        assert ((u.T @ turned @ v.T).diagonal() > 0.6).all()


def test_muon_moves_what_lies_inside() -> None:
    model = network()
    names = {id(weight): name for name, weight in model.named_parameters()}
    chosen = {names[id(weight)] for weight in inner_matrices(model)}
    assert {"blocks.0.ffn_in.expand.weight", "blocks.0.attn.qkv.weight", "tail.weight"} <= chosen
    left = ("head", "upsampler", "large_kernel", "dwconv", "estimator", "bias", "norm")
    assert not [name for name in chosen if any(part in name for part in left)]
    assert len(chosen) == 2 + 2 + 5 * 3 + 1 + 1


def test_a_step_is_muon_and_adamw() -> None:
    model = network()
    optimizer = build_optimizer(model, Distance(), RECIPE)
    before = deepcopy(model.state_dict())
    reference = deepcopy(model)
    plain = torch.optim.AdamW(
        reference.parameters(), fused=True, lr=1e-3, betas=RECIPE.betas, weight_decay=0.01
    )
    momentum = torch.zeros_like(model.tail.weight)
    for seed in range(3):
        give_gradients(model, seed)
        give_gradients(reference, seed)
        gradient = model.tail.weight.grad
        assert gradient is not None
        momentum = 0.95 * momentum + gradient
        nesterov = gradient + 0.95 * momentum
        expected = before["tail.weight"] - 5e-3 * orthogonal(nesterov.flatten(1)[None]).view_as(momentum)
        optimizer.step()
        plain.step()
        assert (model.tail.weight - expected).abs().max() < 1e-6
        assert torch.equal(model.head.weight, reference.head.weight)
        before = deepcopy(model.state_dict())


def test_tall_matrices_move_further() -> None:
    weight = nn.Parameter(torch.zeros(48, 12, 1, 1))
    optimizer = MuonAdamW([weight], [nn.Parameter(torch.zeros(1))], share=1.0, lr=0.1)
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    lengths = torch.linalg.svdvals(weight.detach().flatten(1)) / (0.1 * 2)
    assert 0.6 < lengths.min() and lengths.max() < 1.25


def test_a_saved_state_goes_on_to_the_last_bit() -> None:
    model = network()
    optimizer = build_optimizer(model, Distance(), RECIPE)
    give_gradients(model, 0)
    optimizer.step()
    other = deepcopy(model)
    resumed = build_optimizer(other, Distance(), RECIPE)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    for steps, net in ((optimizer, model), (resumed, other)):
        give_gradients(net, 1)
        steps.step()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_adamw_stays_the_papers() -> None:
    optimizer = build_optimizer(network(), Distance(), recipes.Classic())
    assert type(optimizer) is torch.optim.AdamW
    assert len(optimizer.param_groups) == 1


def test_unknown_optimizer_is_one_line() -> None:
    with pytest.raises(UsageError, match="optimizer='lion': must be one of adamw, muon"):
        recipes.override(recipes.Classic(), ["optimizer=lion"])
