"""The second-order degradation of Real-ESRGAN (Wang et al. 2021): HR pictures in, realistic LR ones out."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from esc_sr.bicubic import resize
from esc_sr.data.jpeg import jpeg
from esc_sr.data.kernels import (
    Blur,
    Range,
    are_probabilities,
    chance,
    draw_kernels,
    draw_sinc,
    filter_each,
    uniform,
)
from esc_sr.errors import UsageError, require

MODES = ("area", "bilinear", "bicubic")
_GREY = (0.2989, 0.587, 0.114)


@dataclass(frozen=True)
class Order:
    """One pass of blur, resize, noise and JPEG; the defaults are those of the first.

    Attributes:
        blur: The kernels.
        blur_prob: Probability that the batch is blurred at all.
        resize: Probability that the batch is enlarged, reduced, or kept.
        resize_range: Least and greatest factor, of HR in the first pass, of LR in the second.
        gaussian: Probability of Gaussian noise; otherwise it is Poisson noise.
        gaussian_sigma: Standard deviation of Gaussian noise, in steps of 8 bits.
        poisson_scale: What Poisson noise is multiplied by.
        grey: Probability that the noise of a picture is the same in all channels.
        jpeg_quality: Quality, from 1 to 100; None is no compression.

    Raises:
        UsageError: A value is out of range.
    """

    blur: Blur = Blur()
    blur_prob: float = 1.0
    resize: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize_range: Range = (0.15, 1.5)
    gaussian: float = 0.5
    gaussian_sigma: Range = (1.0, 30.0)
    poisson_scale: Range = (0.05, 3.0)
    grey: float = 0.4
    jpeg_quality: Range | None = (30.0, 95.0)

    def __post_init__(self) -> None:
        """Refuse values that no picture can be degraded with."""
        probability = "from 0 to 1"
        rising = "two numbers from 0, in rising order"
        low, high = self.jpeg_quality or (1, 100)
        require(
            self,
            {
                "blur_prob": (0 <= self.blur_prob <= 1, probability),
                "resize": (
                    len(self.resize) == 3 and are_probabilities(self.resize),
                    "3 probabilities that sum to 1: enlarge, reduce, keep",
                ),
                "resize_range": (
                    0 < self.resize_range[0] <= 1 <= self.resize_range[1],
                    "two numbers above 0, the first at most 1, the second at least 1",
                ),
                "gaussian": (0 <= self.gaussian <= 1, probability),
                "gaussian_sigma": (0 <= self.gaussian_sigma[0] <= self.gaussian_sigma[1], rising),
                "poisson_scale": (0 <= self.poisson_scale[0] <= self.poisson_scale[1], rising),
                "grey": (0 <= self.grey <= 1, probability),
                "jpeg_quality": (
                    1 <= low <= high <= 100,
                    "two numbers from 1 to 100, in rising order, or None",
                ),
            },
        )


@dataclass(frozen=True)
class Degradation:
    """Everything that decides what becomes of a picture; the defaults are the published values.

    Attributes:
        scale: HR pixels per LR pixel along a side.
        sharpen: LR is made of the HR picture as `sharpen` returns it.
        first: The first pass, on HR.
        second: The second pass, on what the first left, towards LR.
        final_sinc: Probability that a picture ends with a sinc filter.
        final_sizes: Least and greatest side of that filter, px; odd.
        clean: Probability that a picture is reduced by MATLAB's bicubic and nothing else; published as 0.

    Raises:
        UsageError: A value is out of range.
    """

    scale: int = 4
    sharpen: bool = True
    first: Order = Order()
    second: Order = Order(
        blur=Blur(sigma=(0.2, 1.5)),
        blur_prob=0.8,
        resize=(0.3, 0.4, 0.3),
        resize_range=(0.3, 1.2),
        gaussian_sigma=(1.0, 25.0),
        poisson_scale=(0.05, 2.5),
    )
    final_sinc: float = 0.8
    final_sizes: tuple[int, int] = (7, 21)
    clean: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that no picture can be degraded with."""
        low, high = self.final_sizes
        require(
            self,
            {
                "scale": (self.scale >= 1, "at least 1"),
                "final_sinc": (0 <= self.final_sinc <= 1, "from 0 to 1"),
                "final_sizes": (
                    3 <= low <= high and low % 2 == high % 2 == 1,
                    "two odd numbers from 3, in rising order",
                ),
                "clean": (0 <= self.clean <= 1, "from 0 to 1"),
            },
        )


@torch.no_grad()
def degrade(hr: Tensor, settings: Degradation, generator: torch.Generator) -> Tensor:
    """Make LR pictures of HR ones by two passes of blur, resize, noise and JPEG, and a sinc filter.

    Kernels, strength and colour of the noise, and quality are drawn for each picture. What gives all of them
    one size, or costs time, is drawn for the batch, as in the published code: factors and modes of resizing,
    the kind of noise, whether the second pass blurs, and whether the sinc filter or JPEG comes last. Which
    pictures are left clean is drawn last, so that it changes nothing in the others.

    Args:
        hr: (B, 3, H, W) RGB, 0..1; sides are multiples of the scale.
        settings: What to draw from.
        generator: Source of all randomness: its state and the arguments decide the result. On the device of
            `hr` it is fastest; any other device will do.

    Returns:
        (B, 3, H / scale, W / scale) float32, 0..1, in steps of 1/255.

    Raises:
        UsageError: `hr` has another shape.
    """
    if hr.ndim != 4 or hr.shape[1] != 3 or hr.shape[2] % settings.scale or hr.shape[3] % settings.scale:
        raise UsageError(
            f"cannot degrade {tuple(hr.shape)}: must be (B, 3, H, W), H and W multiples of {settings.scale}"
        )
    height, width = hr.shape[2] // settings.scale, hr.shape[3] // settings.scale
    with torch.autocast(hr.device.type, enabled=False):
        x = source = sharpen(hr.float()) if settings.sharpen else hr.float()
        x = _blur_resize_noise(x, settings.first, hr.shape[2:], generator)
        x = _compress(x, settings.first, generator)
        x = _blur_resize_noise(x, settings.second, (height, width), generator)
        kernels = draw_sinc(len(x), settings.final_sinc, settings.final_sizes, generator)
        sinc_last = bool(chance(0.5, 1, generator))
        if sinc_last:
            x = _compress(x, settings.second, generator)
        x = filter_each(_resize(x, (height, width), generator), kernels)
        if not sinc_last:
            x = _compress(x, settings.second, generator)
    return leave_clean(_in_steps(x), source, settings.clean, generator)[0]


def leave_clean(lr: Tensor, hr: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Put the reduced HR picture in the place of some degraded ones.

    Args:
        lr: (B, 3, h, w), 0..1.
        hr: (B, 3, H, W), 0..1, as `sharpen` returns it where LR is to be of that.
        share: Probability of each.
        generator: Source of randomness, of which nothing is drawn for 0.

    Returns:
        (B, 3, h, w) in steps of 1/255, and which are clean, (B, 1, 1, 1) bool.
    """
    is_clean = _each(chance(share, len(lr), generator) if share else lr.new_zeros(len(lr)), lr).bool()
    if not share:
        return lr, is_clean
    return torch.where(is_clean, _in_steps(resize(hr, (lr.shape[2], lr.shape[3]))), lr), is_clean


def _in_steps(x: Tensor) -> Tensor:
    """Rounded and clipped to what 8 bits hold."""
    return (x * 255).round().clamp(0, 255) / 255


def sharpen(x: Tensor, weight: float = 0.5, radius: int = 50, threshold: float = 10.0) -> Tensor:
    """Sharpen by unsharp masking where the picture has detail: what the real-world losses compare with.

    Args:
        x: (B, C, H, W), 0..1.
        weight: How much of the detail is added.
        radius: Side of the Gaussian, px (one more where even); its standard deviation is 0.15 times the side
            + 0.35 px, as OpenCV derives it.
        threshold: Detail below this many steps of 8 bits is left alone.

    Returns:
        (B, C, H, W), 0..1.
    """
    side = radius + 1 - radius % 2
    steps = torch.arange(side, device=x.device, dtype=x.dtype) - side // 2
    gaussian = (-(steps**2) / (2 * (0.15 * side + 0.35) ** 2)).exp()
    gaussian = (gaussian / gaussian.sum()).expand(len(x), 1, side)

    def soften(y: Tensor) -> Tensor:
        return filter_each(filter_each(y, gaussian), gaussian.mT)

    detail = x - soften(x)
    mask = soften((detail.abs() * 255 > threshold).to(x))
    return torch.lerp(x, (x + weight * detail).clamp(0, 1), mask)


def add_gaussian(x: Tensor, sigma: Tensor, grey: Tensor, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise, clipped to 0..1.

    Args:
        x: (B, C, H, W), 0..1.
        sigma: (B,) standard deviation in steps of 8 bits.
        grey: (B,) bool, whether all channels get the same.
        generator: Source of randomness.

    Returns:
        (B, C, H, W), 0..1.
    """
    noise = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
    noise = torch.where(_each(grey, x).bool(), noise[:, :1], noise)
    return (x + noise * _each(sigma, x) / 255).clamp(0, 1)


def add_poisson(x: Tensor, scale: Tensor, grey: Tensor, generator: torch.Generator) -> Tensor:
    """Add Poisson noise: its variance at brightness v is v scale^2 / levels, clipped to 0..1.

    `levels` is the number of different 8-bit values in the picture, rounded up to a power of 2.

    Args:
        x: (B, 3, H, W), 0..1; the noise is that of its 8-bit values.
        scale: (B,) what the noise is multiplied by.
        grey: (B,) bool, whether all channels get the noise of the grey picture.
        generator: Source of randomness.

    Returns:
        (B, 3, H, W), 0..1.
    """
    is_grey = _each(grey, x).bool()
    luma = torch.einsum("c,bchw->bhw", x.new_tensor(_GREY), x)[:, None]
    steps = (torch.where(is_grey, luma, x) * 255).round().clamp(0, 255)
    used = x.new_zeros(len(x), 256).scatter_(1, steps.flatten(1).long(), 1.0)
    levels = _each(2 ** used.sum(1).log2().ceil(), x)
    clean = steps / 255
    rate = (clean * levels).to(generator.device)
    noise = torch.poisson(rate, generator=generator).to(x) / levels - clean
    noise = torch.where(is_grey, noise[:, :1], noise)
    return (x + noise * _each(scale, x)).clamp(0, 1)


def draw_factor(order: Order, generator: torch.Generator) -> float:
    """Draw the factor that a pass resizes by: above 1 enlarges, 1 keeps; equally likely within its range."""
    enlarge, reduce, _ = order.resize
    low, high = order.resize_range
    way, part = uniform(0, 1, 2, generator).tolist()
    if way < enlarge:
        return 1 + (high - 1) * part
    return low + (1 - low) * part if way < enlarge + reduce else 1.0


def _blur_resize_noise(x: Tensor, order: Order, whole: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """The first three steps of a pass; the size is `whole`, px, times the factor drawn."""
    count = len(x)
    kernels = draw_kernels(count, order.blur, generator)
    if bool(chance(order.blur_prob, 1, generator)):
        x = filter_each(x, kernels)
    factor = draw_factor(order, generator)
    x = _resize(x, (max(int(whole[0] * factor), 1), max(int(whole[1] * factor), 1)), generator)
    grey = chance(order.grey, count, generator)
    if bool(chance(order.gaussian, 1, generator)):
        return add_gaussian(x, uniform(*order.gaussian_sigma, count, generator), grey, generator)
    return add_poisson(x, uniform(*order.poisson_scale, count, generator), grey, generator)


def _compress(x: Tensor, order: Order, generator: torch.Generator) -> Tensor:
    """Pictures as JPEG of some quality each makes them; as they are in an order without it."""
    if order.jpeg_quality is None:
        return x
    return jpeg(x, uniform(*order.jpeg_quality, len(x), generator))


def _resize(x: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Resize in one of `MODES`, none of which but area smooths when it reduces: aliasing is part of it."""
    mode = MODES[int(torch.randint(len(MODES), (1,), generator=generator, device=generator.device))]
    return x if x.shape[2:] == size else F.interpolate(x, size, mode=mode)


def _each(values: Tensor, x: Tensor) -> Tensor:
    """One value per picture, (B,), against pictures (B, C, H, W)."""
    return values.to(x)[:, None, None, None]
