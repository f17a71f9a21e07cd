"""What moves the weights: AdamW, or Muon for the matrices inside the network and AdamW for the rest."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from esc_sr.families.contract import Network
from esc_sr.train.recipes import Recipe

_SMALLEST = 12
"""Least side of a weight, as a matrix, that Muon moves."""

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration (Jordan 2024)
_ITERATIONS = 5


def build_optimizer(model: nn.Module, objective: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer of a recipe, for the weights of the network and of what its objective learns."""
    adamw: dict[str, Any] = {"lr": recipe.lr, "betas": recipe.betas, "weight_decay": recipe.weight_decay}
    matrices = inner_matrices(model) if recipe.optimizer == "muon" else []
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    others += objective.parameters()
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(others, fused=True, **adamw)
    return MuonAdamW(matrices, others, share=recipe.muon_lr / recipe.lr, **adamw)


def follow(optimizer: torch.optim.Optimizer, recipe: Recipe) -> None:
    """Take betas, decay and Muon's share from a recipe, where a loaded state has brought those of another."""
    for group in optimizer.param_groups:
        group |= {"betas": recipe.betas, "weight_decay": recipe.weight_decay}
        if group.get("muon"):
            group["share"] = recipe.muon_lr / recipe.lr


def inner_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The convolution weights of `Network.inner`, without depthwise and very small ones."""
    inner = model.inner if isinstance(model, Network) else ()
    return [
        weight
        for name, weight in model.named_parameters()
        if name.startswith(tuple(f"{part}." for part in inner))
        and weight.ndim == 4
        and weight.shape[1] > 1
        and min(weight.flatten(1).shape) >= _SMALLEST
    ]


class MuonAdamW(torch.optim.AdamW):
    """Muon (Jordan et al. 2024) for matrices, AdamW for all other weights, as one optimizer.

    Muon moves a weight by its momentum (Nesterov, 0.95) brought near the closest orthogonal matrix, times
    the learning rate and sqrt(max(1, rows / columns)). A convolution's weight (out, in, k, k) counts as a
    matrix (out, in k k). torch's own Muon takes matrices alone, and works in bfloat16, which is slow on most
    CPUs; here it is float32, and weights of one shape go together.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], others: Iterable[nn.Parameter], *, share: float, **adamw: Any
    ) -> None:
        """Take the weights.

        Args:
            matrices: what Muon moves, each of two dimensions or more.
            others: what AdamW moves.
            share: Muon's learning rate over AdamW's, at any time.
            adamw: lr, betas and weight_decay of AdamW; Muon has no decay.
        """
        groups = [{"params": list(others), "muon": False}, {"params": list(matrices), "muon": True}]
        super().__init__([group for group in groups if group["params"]], fused=True, **adamw)
        for group in self.param_groups:
            group["share"] = share if group["muon"] else 1.0

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move all weights that have a gradient."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["muon"]]
        try:
            result = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["muon"]:
                self._turn(group["params"], group["lr"] * group["share"])
        return result

    def _turn(self, weights: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        """Muon's step."""
        alike = defaultdict(list)
        for weight in weights:
            if weight.grad is not None:
                alike[tuple(weight.shape)].append(weight)
        for same in alike.values():
            gradients = torch.stack([weight.grad for weight in same if weight.grad is not None]).float()
            for weight in same:
                if not self.state[weight]:  # "step" is not used, but AdamW looks for it when it loads a state
                    self.state[weight] |= {"step": torch.zeros(()), "momentum": torch.zeros_like(weight)}
            moving = [self.state[weight]["momentum"] for weight in same]
            torch._foreach_mul_(moving, momentum)
            torch._foreach_add_(moving, list(gradients))
            steps = orthogonal((gradients + momentum * torch.stack(moving)).flatten(2))
            rows, columns = steps.shape[1:]
            factor = lr * max(1.0, rows / columns) ** 0.5
            torch._foreach_add_(tuple(same), tuple(steps.view(-1, *same[0].shape)), alpha=-factor)


def orthogonal(matrices: Tensor) -> Tensor:
    """Bring matrices near the closest orthogonal ones: singular values to about 1.

    Args:
        matrices: (N, rows, columns), float32, of any length.

    Returns:
        The same shape; singular values of some 0.7 to 1.2, but where they were nearly 0.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x
