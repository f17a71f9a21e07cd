"""The perceptual loss: distance between what VGG19 sees in two pictures (Supp. 6.3)."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.errors import WeightsError
from esc_sr.weights.checkpoint import is_finite
from esc_sr.weights.container import read_tensors, some_names

WEIGHTS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
"""Layers compared, before their activation, and what each distance counts (as in Real-ESRGAN)."""

SMALLEST = 16  # px: four times halved, one is left

_STAGES = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))  # convolutions and their channels
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_WHERE = (
    "VGG19's weights are torchvision's file vgg19-dcbb9e9d.pth, which PyTorch offers for download with its "
    "pretrained models; name its path"
)


class PerceptualLoss(nn.Module):
    """Weighted L1 distance between VGG19's features of two pictures; frozen, float32 under any autocast.

    Attributes:
        layers: The layers compared and their weights: those of `WEIGHTS` that the file reaches.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path, notify: Callable[[str], None] = lambda line: None) -> None:
        """Read VGG19's convolutions.

        Args:
            path: .pth or .safetensors with torchvision's names, `features.0.weight` and so on; the classifier
                is not used. A file with only the first convolutions compares only what it reaches.
            notify: Called with one line that names the layers left out, if any are.

        Raises:
            WeightsError: The file is missing, damaged, or holds other weights, or none of the layers.
        """
        super().__init__()
        self.vgg, reached = _build(_read(path), path)
        self.layers = {name: weight for name, weight in WEIGHTS.items() if name in reached}
        self._ends = {place: name for name, place in reached.items() if name in self.layers}
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()
        if missing := [name for name in WEIGHTS if name not in self.layers]:
            end = list(reached)[-1]
            notify(f"{path}: ends at {end}, so the perceptual loss does without {', '.join(missing)}")

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """Compare pictures.

        Args:
            x: (B, 3, H, W) RGB, 0..1, sides from 16 px; gradients flow into it.
            target: The same shape; no gradient.

        Returns:
            The loss, a float32 scalar, 0 for equal pictures.
        """
        with torch.autocast(x.device.type, enabled=False):
            with torch.no_grad():
                wanted = list(self._features(target))
            distances = [
                self.layers[name] * F.l1_loss(mine, other)
                for (name, mine), (_, other) in zip(self._features(x), wanted, strict=True)
            ]
        return torch.stack(distances).sum()

    def digest(self) -> str:
        """SHA-256 of the weights compared with, whatever the file they were in."""
        found = hashlib.sha256()
        for weight in self.vgg.parameters():
            found.update(weight.cpu().numpy().tobytes())
        return found.hexdigest()

    def _features(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each compared layer's name and output (B, C, H / 2^k, W / 2^k), before its activation."""
        x = (x.float() - self.mean) / self.std
        for place, layer in enumerate(self.vgg):
            x = layer(x)
            if place in self._ends:
                yield self._ends[place], x


def _read(path: Path) -> dict[str, Tensor]:
    """The convolutions' tensors, with one line that also says where to get them if that fails."""
    try:
        tensors, _ = read_tensors(path)
    except WeightsError as error:
        raise WeightsError(f"{error}; {_WHERE}") from error
    found = {name: value for name, value in tensors.items() if name.startswith("features.")}
    if broken := [name for name, value in found.items() if not is_finite(value)]:
        raise WeightsError(f"{path}: damaged, not all is a finite number in {some_names(broken)}; {_WHERE}")
    return found


def _build(tensors: Mapping[str, Tensor], path: Path) -> tuple[nn.Sequential, dict[str, int]]:
    """VGG19 up to the last compared layer that is there; and the places of its convolutions by name."""
    layers: list[nn.Module] = []
    places: dict[str, int] = {}
    for name, dim, out in _convolutions():
        if name.endswith("_1") and layers:
            layers.append(nn.MaxPool2d(2))
        conv = nn.Conv2d(dim, out, 3, padding=1, device="meta")
        key = f"features.{len(layers)}"
        weight, bias = tensors.get(f"{key}.weight"), tensors.get(f"{key}.bias")
        if weight is None and bias is None:
            break
        if weight is None or bias is None or weight.shape != conv.weight.shape or bias.shape != (out,):
            raise WeightsError(
                f"{path}: not VGG19, {key} is no 3x3 convolution of {dim} to {out} channels; {_WHERE}"
            )
        conv.load_state_dict({"weight": weight.float(), "bias": bias.float()}, assign=True)
        places[name] = len(layers)
        layers += [conv, nn.ReLU()]
    if len(tensors) != 2 * len(places):
        raise WeightsError(f"{path}: not VGG19, it has other layers, or lacks some between; {_WHERE}")
    if "conv1_2" not in places:
        raise WeightsError(f"{path}: has no features.2.weight, the first layer to compare; {_WHERE}")
    last = max(places[name] for name in WEIGHTS if name in places)
    return nn.Sequential(*layers[: last + 1]), places


def _convolutions() -> Iterator[tuple[str, int, int]]:
    """Name, input and output channels of VGG19's convolutions, in order."""
    dim = 3
    for stage, (count, out) in enumerate(_STAGES, start=1):
        for number in range(1, count + 1):
            yield f"conv{stage}_{number}", dim, out
            dim = out
