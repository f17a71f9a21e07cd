"""Blur kernels of the real-world degradation: Gaussian and plateau shapes, and sinc (Wang et al. 2021)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from esc_sr.errors import require
from esc_sr.network.padding import reflect_pad

Range = tuple[float, float]

KINDS = ("iso", "aniso", "generalized iso", "generalized aniso", "plateau iso", "plateau aniso")
SHORT = 13  # a sinc kernel of fewer pixels cuts off no lower than pi/3, a longer one no lower than pi/5


@dataclass(frozen=True)
class Blur:
    """What blur kernels to draw; the defaults are Real-ESRGAN's of the first order.

    Attributes:
        kinds: Probability of each of `KINDS`, where the kernel is no sinc.
        sinc: Probability of a sinc kernel.
        sigma: Standard deviation along each axis, px.
        generalized: Exponent of the generalized Gaussian kinds; below and above 1 are equally likely.
        plateau: Exponent of the plateau kinds; likewise.
        sizes: Least and greatest side of a kernel, px; odd.

    Raises:
        UsageError: A value is out of range.
    """

    kinds: tuple[float, float, float, float, float, float] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sinc: float = 0.1
    sigma: Range = (0.2, 3.0)
    generalized: Range = (0.5, 4.0)
    plateau: Range = (1.0, 2.0)
    sizes: tuple[int, int] = (7, 21)

    def __post_init__(self) -> None:
        """Refuse values that make no kernel."""
        around_one = "two numbers above 0, the first at most 1, the second at least 1"
        require(
            self,
            {
                "kinds": (
                    len(self.kinds) == len(KINDS) and are_probabilities(self.kinds),
                    f"{len(KINDS)} probabilities that sum to 1",
                ),
                "sinc": (0 <= self.sinc <= 1, "from 0 to 1"),
                "sigma": (0 < self.sigma[0] <= self.sigma[1], "two numbers above 0, in rising order"),
                "generalized": (0 < self.generalized[0] <= 1 <= self.generalized[1], around_one),
                "plateau": (0 < self.plateau[0] <= 1 <= self.plateau[1], around_one),
                "sizes": (
                    3 <= self.sizes[0] <= self.sizes[1] and self.sizes[0] % 2 == self.sizes[1] % 2 == 1,
                    "two odd numbers from 3, in rising order",
                ),
            },
        )


def are_probabilities(values: tuple[float, ...]) -> bool:
    """Whether none is negative and they sum to 1."""
    return min(values) >= 0 and math.isclose(sum(values), 1, abs_tol=1e-6)


def uniform(low: float | Tensor, high: float | Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` numbers from low to high on the generator's device: (count,) float32."""
    return low + (high - low) * torch.rand(count, generator=generator, device=generator.device)


def chance(probability: float, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` times whether something of this probability happens: (count,) bool."""
    return torch.rand(count, generator=generator, device=generator.device) < probability


def draw_kernels(count: int, blur: Blur, generator: torch.Generator) -> Tensor:
    """Draw one blur kernel per picture, of any kind.

    Returns:
        (count, k, k) float32 with k the greatest size, on the generator's device; each sums to 1, is zero
        outside its own size, and looks the same after half a turn.
    """
    size = draw_sizes(count, blur.sizes, generator)
    lowest = torch.where(size < SHORT, math.pi / 3, math.pi / 5)
    sinc = sinc_kernels(uniform(lowest, math.pi, count, generator), size, blur.sizes[1])
    shaped = _draw_shaped(count, blur, size, generator)
    return torch.where(chance(blur.sinc, count, generator)[:, None, None], sinc, shaped)


def draw_sinc(count: int, probability: float, sizes: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw a sinc kernel per picture with this probability, the identity otherwise: (count, k, k)."""
    size = draw_sizes(count, sizes, generator)
    sinc = sinc_kernels(uniform(math.pi / 3, math.pi, count, generator), size, sizes[1])
    identity = torch.zeros_like(sinc)
    identity[:, sizes[1] // 2, sizes[1] // 2] = 1
    return torch.where(chance(probability, count, generator)[:, None, None], sinc, identity)


def draw_sizes(count: int, sizes: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw odd kernel sides, all equally likely: (count,) int64."""
    least, greatest = sizes[0] // 2, sizes[1] // 2
    draws = torch.randint(least, greatest + 1, (count,), generator=generator, device=generator.device)
    return 2 * draws + 1


def sinc_kernels(cutoff: Tensor, size: Tensor, side: int) -> Tensor:
    """Circular low-pass kernels, whose ringing stands for that of sharpening and compression.

    Args:
        cutoff: (N,) angular frequency, above 0 to pi, radians per px.
        size: (N,) side of each kernel, px; odd, at most `side`.
        side: Side of the result, px; odd.

    Returns:
        (N, side, side) float32, each summing to 1.
    """
    y, x = _grid(side, cutoff.device)
    radius = (x**2 + y**2).sqrt()
    cutoff = cutoff[:, None, None]
    ripple = torch.special.bessel_j1(cutoff * radius) / radius.clamp(min=0.5)
    return _normalise(torch.where(radius == 0, cutoff / 2, ripple), size)  # J1(a r) / r -> a / 2 at 0


def shaped_kernels(
    sigma: Tensor, angle: Tensor, exponent: Tensor, plateau: Tensor, size: Tensor, side: int
) -> Tensor:
    """Gaussian and plateau kernels: exp(-q^b / 2) and 1 / (1 + q^b), q the squared elliptic radius.

    Args:
        sigma: (N, 2) standard deviation along the ellipse's two axes, px.
        angle: (N,) of the first axis, radians.
        exponent: (N,) b; 1 with a Gaussian is the plain one.
        plateau: (N,) bool, which of the two.
        size: (N,) side of each kernel, px; odd, at most `side`.
        side: Side of the result, px; odd.

    Returns:
        (N, side, side) float32, each summing to 1.
    """
    y, x = _grid(side, sigma.device)
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    first, second = sigma[:, :1, None], sigma[:, 1:, None]
    q = ((cosine * x + sine * y) / first) ** 2 + ((cosine * y - sine * x) / second) ** 2
    q = q ** exponent[:, None, None]  # (N, side, side)
    return _normalise(torch.where(plateau[:, None, None], 1 / (1 + q), (-q / 2).exp()), size)


def filter_each(x: Tensor, kernels: Tensor) -> Tensor:
    """Filter every picture with its own kernel, reflecting at the edges.

    Args:
        x: (B, C, H, W), any side from 1.
        kernels: (B, k, l), odd sides.

    Returns:
        (B, C, H, W).
    """
    b, c, h, w = x.shape
    down, across = kernels.shape[1] // 2, kernels.shape[2] // 2
    padded = reflect_pad(x, across, across, down, down).reshape(1, b * c, h + 2 * down, w + 2 * across)
    weight = kernels.to(x).repeat_interleave(c, 0)[:, None]  # (B C, 1, k, l)
    return F.conv2d(padded, weight, groups=b * c).view(b, c, h, w)


def _draw_shaped(count: int, blur: Blur, size: Tensor, generator: torch.Generator) -> Tensor:
    """Kernels of the six kinds, (count, k, k)."""
    weights = torch.tensor(blur.kinds, device=generator.device)
    kind = torch.multinomial(weights, count, replacement=True, generator=generator)  # (count,)
    sigma = uniform(*blur.sigma, 2 * count, generator).view(count, 2)
    angle = uniform(-math.pi, math.pi, count, generator)
    round_one = kind % 2 == 0
    sigma = torch.where(round_one[:, None], sigma[:, :1], sigma)
    exponents = torch.stack(
        (
            torch.ones(count, device=generator.device),
            _around_one(blur.generalized, count, generator),
            _around_one(blur.plateau, count, generator),
        )
    )
    exponent = exponents.gather(0, (kind // 2)[None])[0]
    return shaped_kernels(sigma, angle, exponent, kind >= 4, size, blur.sizes[1])


def _around_one(limits: Range, count: int, generator: torch.Generator) -> Tensor:
    """Exponents, half of them from the lower limit to 1, half from 1 to the upper one."""
    below = uniform(limits[0], 1, count, generator)
    above = uniform(1, limits[1], count, generator)
    return torch.where(chance(0.5, count, generator), below, above)


def _grid(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Distance from the middle in px: y (side, 1) and x (1, side)."""
    steps = torch.arange(side, device=device, dtype=torch.float32) - side // 2
    return steps[:, None], steps[None]


def _normalise(kernels: Tensor, size: Tensor) -> Tensor:
    """Cut (N, side, side) kernels to their own size and make them sum to 1."""
    y, x = _grid(kernels.shape[1], kernels.device)
    inside = torch.maximum(y.abs(), x.abs()) <= (size // 2)[:, None, None]
    kernels = kernels * inside
    return kernels / kernels.sum((1, 2), keepdim=True)
