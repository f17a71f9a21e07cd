"""NIQE: how far the local statistics of a picture are from those of sharp photographs; needs no ground truth.

After Mittal, Soundararajan and Bovik, "Making a 'Completely Blind' Image Quality Analyzer", 2013. Equations
are numbered as there.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor

from esc_sr.bicubic import resize
from esc_sr.errors import UsageError, WeightsError

PATCH = 96
"""Side of the patches whose statistics are taken, px."""

_SHARP = 0.75  # of a picture's sharpest patch: what a patch must have to count when fitting
_WINDOW, _SIGMA = 7, 7 / 6
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
_ROUNDING = 1e-9  # grey levels: what is left of a flat surface after subtracting its mean
_SHAPES = torch.arange(200, 10_001, dtype=torch.float64) / 1000
_RATIOS = torch.exp(2 * torch.lgamma(2 / _SHAPES) - torch.lgamma(1 / _SHAPES) - torch.lgamma(3 / _SHAPES))
_BUNDLED = Path(__file__).with_name("niqe.safetensors")


@dataclass(frozen=True, eq=False)
class NiqeModel:
    """The Gaussian that the features of patches of good pictures follow.

    Attributes:
        mean: (36,) float64.
        covariance: (36, 36) float64.
    """

    mean: Tensor
    covariance: Tensor


def load_niqe(path: Path) -> NiqeModel:
    """Read a model from a .npz or .safetensors file: its array of 36 values and that of 36 x 36, by any name.

    Raises:
        WeightsError: the file cannot be read, or has not one array of each kind.
    """
    try:
        arrays = dict(np.load(path)) if path.suffix == ".npz" else load_file(path)
    except (OSError, ValueError, EOFError, BadZipFile, SafetensorError) as error:
        raise WeightsError(f"cannot read {path}: not a .npz or .safetensors file ({error})") from error
    means = [array for array in arrays.values() if array.size == 36]
    covariances = [array for array in arrays.values() if array.shape == (36, 36)]
    if len(means) != 1 or len(covariances) != 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise WeightsError(f"{path}: needs one array of 36 values and one of 36 x 36, holds {shapes}")
    mean, covariance = (torch.from_numpy(array.astype(np.float64)) for array in (means[0], covariances[0]))
    return NiqeModel(mean.flatten(), covariance)


def niqe(y: Tensor, border: int = 0, model: NiqeModel | None = None) -> float:
    """Distance from natural statistics (Eq. 10): lower is better; sharp photographs have about 3.

    Deviation: the model that comes with the package is fitted to other photographs than the authors'; its
    numbers are not comparable with published ones. For those, pass the authors' parameters (`load_niqe`).
    Deviation: patches without contrast are left out.

    Args:
        y: (H, W), 0..255, grey or from `luma`; rounded here.
        border: px cut off every side first.
        model: what good pictures are like; by default the package's own.

    Returns:
        The distance, at least 0.

    Raises:
        UsageError: not two patches of 96 x 96 px with contrast in the picture.
    """
    features, _ = _measure(y, border)
    if len(features) < 2:
        height, width = y.shape
        raise UsageError(
            f"{width} x {height} px with border {border}: NIQE needs two patches of {PATCH} x {PATCH} px "
            f"that are not flat, this has {len(features)}"
        )
    natural = model or _bundled()
    difference = features.mean(dim=0) - natural.mean
    pooled = (features.T.cov() + natural.covariance) / 2
    return float((difference @ torch.linalg.pinv(pooled, hermitian=True) @ difference).sqrt())


def fit_niqe(planes: Iterable[Tensor]) -> tuple[NiqeModel, int]:
    """Fit a model to the sharp patches of good pictures (Sec. II-D).

    Args:
        planes: pictures (H, W), 0..255, as `niqe` takes them.

    Returns:
        The model, and the number of patches it rests on.

    Raises:
        UsageError: no more than 36 sharp patches.
    """
    chosen = [torch.empty(0, 36, dtype=torch.float64)]
    for plane in planes:
        features, sharpness = _measure(plane, 0)
        chosen.append(features[sharpness > _SHARP * sharpness.amax()] if len(features) else features)
    patches = torch.cat(chosen)
    if len(patches) <= 36:
        raise UsageError(f"{len(patches)} sharp patches: a model needs more than 36, give more pictures")
    return NiqeModel(patches.mean(dim=0), patches.T.cov()), len(patches)


@cache
def _bundled() -> NiqeModel:
    """The package's own model, read once."""
    return load_niqe(_BUNDLED)


def _measure(y: Tensor, border: int) -> tuple[Tensor, Tensor]:
    """Features (n, 36) and sharpness (n) of the patches that are not flat; n may be 0."""
    y = y.detach().to("cpu", torch.float64).round()
    height, width = ((side - 2 * border) // PATCH * PATCH for side in y.shape)
    if border < 0 or min(height, width) < PATCH:
        return y.new_empty(0, 36), y.new_empty(0)
    y = y[border : border + height, border : border + width]
    contrast, deviation = _normalize(y)
    coarse, _ = _normalize(resize(y, (height // 2, width // 2)))
    features = torch.cat([_features(_tiles(contrast, PATCH)), _features(_tiles(coarse, PATCH // 2))], dim=1)
    sharpness = _tiles(deviation, PATCH).mean(dim=(1, 2))  # Eq. 11
    defined = features.isfinite().all(dim=1)
    return features[defined], sharpness[defined]


def _normalize(y: Tensor) -> tuple[Tensor, Tensor]:
    """Contrast against the Gaussian neighbourhood (Eq. 1) and the deviation in it (Eq. 3), both (H, W)."""
    offsets = torch.arange(_WINDOW, dtype=y.dtype, device=y.device) - _WINDOW // 2
    window = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    window = window / window.sum()
    planes = F.pad(torch.stack([y, y * y]).unsqueeze(1), [_WINDOW // 2] * 4, mode="replicate")
    mean, square = F.conv2d(F.conv2d(planes, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1)).squeeze(1)
    deviation = (square - mean * mean).clamp(min=0).sqrt()
    difference = y - mean
    difference = difference.where(difference.abs() > _ROUNDING, 0)
    return difference / (deviation + 1), deviation


def _tiles(plane: Tensor, side: int) -> Tensor:
    """(H, W) -> (n, side, side)."""
    return plane.unfold(0, side, side).unfold(1, side, side).reshape(-1, side, side)


def _features(patches: Tensor) -> Tensor:
    """(n, H, W) -> (n, 18): shape and width of the values, then of their products with four neighbours."""
    shape, left, right = fit_aggd(patches.flatten(1))
    features = [shape, (left + right) / 2]
    for shift in _NEIGHBOURS:  # across, down and the two diagonals, round the edge of the patch
        shape, left, right = fit_aggd((patches * patches.roll(shift, (1, 2))).flatten(1))
        mean = (right - left) * torch.exp(torch.lgamma(2 / shape) - torch.lgamma(1 / shape))  # Eq. 8
        features += [shape, mean, left, right]
    return torch.stack(features, dim=1)


def fit_aggd(samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit an asymmetric generalized Gaussian by its moments (Eq. 7).

    Args:
        samples: (..., n) float64.

    Returns:
        Shape, left width and right width, each (...). The shape is one of 0.2, 0.201 .. 10; 2 is a Gaussian,
        whose widths are sqrt(2) standard deviations. Without samples on one side of 0 the width there is NaN,
        and the shape means nothing.
    """
    square = samples * samples
    below, above = samples < 0, samples > 0
    left = (square * below).sum(dim=-1) / below.sum(dim=-1)
    right = (square * above).sum(dim=-1) / above.sum(dim=-1)
    skew = (left / right).sqrt()
    ratio = samples.abs().mean(dim=-1).square() / square.mean(dim=-1)
    ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1).square()
    halfway = (_RATIOS[1:] + _RATIOS[:-1]) / 2
    shape = _SHAPES[torch.bucketize(ratio, halfway)]
    width = torch.exp((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2)
    return shape, left.sqrt() * width, right.sqrt() * width
