"""What a recipe makes small: a distance, or distance, perceptual and adversarial losses together (Supp. 6.3).

An objective is a module that is given what the network made and what it should have made, and gives losses by
name, whose sum is made small. Its own parameters learn with the network's.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.data.degrade import sharpen
from esc_sr.network.discriminator import UNetDiscriminator
from esc_sr.train.perceptual import PerceptualLoss

LOSSES = {"l1": F.l1_loss, "mse": F.mse_loss}


class Distance(nn.Module):
    """The distance to what the network should have made; in the real-world recipes that is sharpened."""

    def __init__(self, loss: str = "l1", *, sharpened: bool = False) -> None:
        """Take one of `LOSSES`."""
        super().__init__()
        self.loss = loss
        self.sharpened = sharpened

    def forward(self, found: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Compare.

        Args:
            found: (B, ...) float32.
            wanted: the same shape; where it is to be sharpened (B, 3, H, W), 0..1.

        Returns:
            A scalar by the loss's name.
        """
        return {self.loss: LOSSES[self.loss](found, sharpen(wanted) if self.sharpened else wanted)}


class Adversarial(nn.Module):
    """The objective of stage 2: sharpened pictures by distance and features, plain ones by a discriminator.

    The losses of network and discriminator may be added up, since neither's parameters get a gradient from
    the other's. The discriminator sees the picture as it was before the step, so it makes no difference which
    of the two moves first.
    """

    def __init__(
        self,
        perceptual: PerceptualLoss,
        discriminator: nn.Module | None = None,
        weights: Sequence[float] = (1.0, 1.0, 0.1),
        loss: str = "l1",
        *,
        sharpened: bool = True,
    ) -> None:
        """Take the parts.

        Args:
            perceptual: compares features; stays on its device.
            discriminator: pictures to logits; by default the published one.
            weights: what distance, perceptual and adversarial loss count; the defaults are the paper's.
            loss: the distance, one of `LOSSES`.
            sharpened: whether distance and features compare with HR sharpened, as published.
        """
        super().__init__()
        self.discriminator = discriminator or UNetDiscriminator()
        self.compare = perceptual.forward  # a function: the frozen network is no part of the state
        self.weights = tuple(weights)
        self.loss = loss
        self.sharpened = sharpened

    def forward(self, found: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Judge what the network made.

        Args:
            found: (B, 3, H, W), float32, 0..1.
            wanted: HR pictures of the same shape.

        Returns:
            Scalars: distance, perceptual and adversarial, weighted, for the network; and discriminator.
        """
        target = sharpen(wanted) if self.sharpened else wanted
        self.discriminator.requires_grad_(False)
        losses = {
            self.loss: LOSSES[self.loss](found, target),
            "perceptual": self.compare(found, target),
            "adversarial": _judge(self.discriminator(found), real=True),
        }
        self.discriminator.requires_grad_(True)
        weighted = {
            name: weight * loss for weight, (name, loss) in zip(self.weights, losses.items(), strict=True)
        }
        return weighted | {"discriminator": discriminator_loss(self.discriminator, wanted, found)}


def discriminator_loss(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss: binary cross-entropy of both kinds of pictures, summed.

    Args:
        discriminator: Pictures to logits.
        real: (B, 3, H, W), 0..1, HR pictures, not sharpened as published.
        fake: The same shape, made by the network, which gets no gradient.

    Returns:
        A scalar; 2 log 2 = 1.386 where it cannot tell.
    """
    return _judge(discriminator(real), real=True) + _judge(discriminator(fake.detach()), real=False)


def _judge(logits: Tensor, *, real: bool) -> Tensor:
    """Mean cross-entropy of logits against "all real" or "none real"."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))
