"""From a network and a picture to a score: padding, rounding, channels, border (Sec. 4.2, Sec. 4.3)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from esc_sr.bicubic import enlarged, resize
from esc_sr.data.pairs import Pair
from esc_sr.errors import DataError, UsageError, require
from esc_sr.families.contract import Network, adopt
from esc_sr.machine.precision import PRECISIONS
from esc_sr.metrics import luma, psnr, rgb_psnr, ssim
from esc_sr.upscaling.engine import Upscaler

Pixels = NDArray[np.uint8] | NDArray[np.float32]
"""(H, W, 3) RGB, 0..255; floating where the protocol does not round."""


class Scores(NamedTuple):
    """Means over pictures: PSNR in dB, SSIM, and how many pictures."""

    psnr: float
    ssim: float
    pictures: int


@dataclass(frozen=True)
class Protocol:
    """How a prediction is made and compared; the defaults are those of Table 2.

    Attributes:
        padding: "image" reflects the whole LR picture out as the network's published numbers were made
            (`Traits.measured_multiple`: of ESC to whole windows, 32 px, of ESC-XL 48); "features" leaves that
            to the network itself.
        channels: "y", the luma of BT.601; or "rgb", all three together (Table 5).
        grey: how files stored as grey are compared on Y: "rgb", as RGB pictures; or "raw", their values as Y.
        rounded: predictions are rounded to 8 bits; Tables 5 and 6 are measured without.
        self_ensemble: mean over the eight flips and rotations.
        precision: of the network, fp32, bf16 or fp16.
    """

    padding: str = "image"
    channels: str = "y"
    grey: str = "rgb"
    rounded: bool = True
    self_ensemble: bool = False
    precision: str = "fp32"

    def __post_init__(self) -> None:
        """Refuse what no protocol is called."""
        rules = {
            "padding": (self.padding in ("image", "features"), "image or features"),
            "channels": (self.channels in ("y", "rgb"), "y or rgb"),
            "grey": (self.grey in ("rgb", "raw"), "rgb or raw"),
            "precision": (self.precision in PRECISIONS, " or ".join(PRECISIONS)),
        }
        require(self, rules)

    @classmethod
    def of(cls, network: nn.Module | None, **changes: Any) -> "Protocol":
        """The paper's protocol for a network, with changes: that of Table 6 for any size, else Table 2."""
        usual: dict[str, Any] = {}
        if isinstance(network, Network) and network.config.scale is None:
            usual = {"padding": "features", "rounded": False}
        return cls(**usual | changes)

    def border(self, scale: int) -> int:
        """What is cut off each side before comparing, px: the scale; on RGB six more (Sec. 4.3)."""
        return scale + (6 if self.channels == "rgb" else 0)


PAPER = Protocol()


def predict(model: nn.Module, lr: NDArray[np.uint8], scale: int, protocol: Protocol = PAPER) -> Pixels:
    """Upscale a picture as the paper measures it.

    Args:
        model: A `Network`, or (1, 3, h, w) in 0..1 -> (1, 3, scale*h, scale*w); runs where its weights are.
        lr: (h, w, 3) RGB, 0..255.
        scale: the model's scale, or any whole number if it gives any size.
        protocol: how.

    Returns:
        (scale*h, scale*w, 3) RGB, 0..255, uint8 or, where the protocol does not round, float32.

    Raises:
        UsageError: the model has another scale.
        WeightsError: the network gives values that are not finite.
    """
    network = adopt(model, scale)
    own, multiple = network.config.scale, network.measured_multiple
    if own not in (None, scale):
        raise UsageError(f"the model enlarges x{own}, not x{scale}; measure it at its own scale")
    height, width = lr.shape[:2]
    if protocol.padding == "image":
        lr = np.pad(lr, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="reflect")
    ensemble = protocol.self_ensemble
    upscaler = Upscaler(network, scale, precision=protocol.precision, self_ensemble=ensemble, frame=0)
    batch = torch.from_numpy(np.ascontiguousarray(lr)).permute(2, 0, 1).unsqueeze(0).float() / 255
    sr = upscaler.upscale(batch)[0, :, : height * scale, : width * scale] * 255
    sr = sr.round().to(torch.uint8) if protocol.rounded else sr
    return cast(Pixels, sr.permute(1, 2, 0).cpu().numpy())


def bicubic(lr: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Upscale (h, w, 3) as MATLAB does, the baseline of the field."""
    return resize(lr, enlarged(lr.shape[:2], scale))


def score(
    sr: Pixels, hr: NDArray[np.uint8], scale: int, protocol: Protocol = PAPER, grey: bool = False
) -> tuple[float, float]:
    """PSNR (dB) and SSIM of a picture (H, W, 3) against another; on RGB SSIM is the mean over channels.

    Args:
        sr: what is judged.
        hr: the ground truth.
        scale: decides the border.
        protocol: channels, and what becomes of grey.
        grey: the files are stored as grey.
    """
    border = protocol.border(scale)
    a, b = (torch.from_numpy(pixels).permute(2, 0, 1) for pixels in (sr, hr))
    if protocol.channels == "rgb":
        return float(rgb_psnr(a, b, border)), float(ssim(a, b, border).mean())
    a, b = luma(a), luma(b)
    if grey and protocol.grey == "raw":
        a, b = ((y - 16) * 255 / 219 for y in (a, b))  # from 16..235 back to 0..255
    return float(psnr(a, b, border)), float(ssim(a, b, border))


def evaluate(model: nn.Module, pairs: Iterable[Pair], scale: int, protocol: Protocol = PAPER) -> Scores:
    """Mean PSNR and SSIM over all pairs, by default on Y with a border of `scale` px cut off.

    Raises:
        DataError: there are no pairs.
    """
    rows = [score(predict(model, pair.lr, scale, protocol), pair.hr, scale, protocol) for pair in pairs]
    if not rows:
        raise DataError("nothing to evaluate: no pairs of pictures")
    mean_psnr, mean_ssim = np.mean(rows, axis=0)
    return Scores(float(mean_psnr), float(mean_ssim), len(rows))
