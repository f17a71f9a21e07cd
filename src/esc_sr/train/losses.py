"""What the real-world recipe makes small: L1, perceptual and adversarial losses together (Supp. 6.3)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.train.perceptual import PerceptualLoss


@dataclass(frozen=True)
class GeneratorLoss:
    """The generator's loss of stage 2; the weights are the paper's.

    Attributes:
        perceptual: Compares features.
        l1_weight: What the L1 distance counts.
        perceptual_weight: What `perceptual` counts.
        adversarial_weight: What it counts not to deceive the discriminator.
    """

    perceptual: PerceptualLoss
    l1_weight: float = 1.0
    perceptual_weight: float = 1.0
    adversarial_weight: float = 0.1

    def __call__(
        self, sr: Tensor, target: Tensor, discriminator: nn.Module
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Judge what the generator made.

        The discriminator's parameters get gradients too, unless they are frozen meanwhile; clear them before
        its own step.

        Args:
            sr: (B, 3, H, W), 0..1, made by the generator.
            target: The HR pictures, sharpened by `data.degrade.sharpen` as published.
            discriminator: Pictures to logits.

        Returns:
            The loss to minimise, and its parts by name, weighted and detached, for the log; all scalars.
        """
        logits = discriminator(sr).float()
        parts = {
            "l1": self.l1_weight * F.l1_loss(sr.float(), target.float()),
            "perceptual": self.perceptual_weight * self.perceptual(sr, target),
            "adversarial": self.adversarial_weight * _judge(logits, real=True),
        }
        return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()}


def discriminator_loss(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss: binary cross-entropy of both kinds of pictures, summed.

    Args:
        discriminator: Pictures to logits.
        real: (B, 3, H, W), 0..1, HR pictures, not sharpened as published.
        fake: The same shape, made by the generator, which gets no gradient.

    Returns:
        A float32 scalar; 2 log 2 = 1.386 where it cannot tell.
    """
    return _judge(discriminator(real).float(), real=True) + _judge(
        discriminator(fake.detach()).float(), real=False
    )


def _judge(logits: Tensor, *, real: bool) -> Tensor:
    """Mean cross-entropy of logits against "all real" or "none real"."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))
