"""Networks of no family here that spandrel knows, as of its version 0.4; the extra `spandrel` brings it."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from esc_sr.errors import WeightsError
from esc_sr.families.contract import Foreign
from esc_sr.weights.checkpoint import UnknownNetworkError, is_finite
from esc_sr.weights.container import some_names
from esc_sr.weights.facts import first_line

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor


class SpandrelNetwork(Foreign):
    """A network as spandrel describes it, picture by picture: its padding, its range, its precisions.

    Its results are within 0..1. Without gradients.

    Attributes:
        described: What spandrel tells of it.
    """

    measured_multiple = 1

    def __init__(self, descriptor: "ImageModelDescriptor[Any]") -> None:
        """Take what spandrel has loaded."""
        tags = f" ({', '.join(descriptor.tags)})" if descriptor.tags else ""
        super().__init__(descriptor.model, descriptor.scale, f"{descriptor.architecture.name}{tags}")
        self.described = descriptor

    def forward(self, lr: Tensor) -> Tensor:
        """As `Network`; what spandrel promises is of one picture, and of some networks only in float32."""
        described, device = self.described, lr.device.type
        halves = {torch.float16: described.supports_half, torch.bfloat16: described.supports_bfloat16}
        lowered = torch.is_autocast_enabled(device) and halves.get(torch.get_autocast_dtype(device), False)
        with torch.autocast(device, enabled=lowered):
            return torch.cat([described(one.clone()).clone() for one in lr.split(1)])


def by_spandrel(unknown: UnknownNetworkError) -> SpandrelNetwork:
    """Build a network that no family knows.

    Args:
        unknown: The refusal of its file.

    Raises:
        WeightsError: spandrel is not there, or does not know it either, or it takes no RGB picture.
    """
    if any(find_spec(package) is None for package in ("spandrel", "torchvision")):
        raise WeightsError(f'{unknown}; pip install "esc-sr[spandrel]" opens others') from unknown
    try:
        from spandrel import MAIN_REGISTRY, ImageModelDescriptor, UnsupportedModelError
    except Exception as error:  # torchvision raises what it likes where it does not fit torch
        raise WeightsError(f"{unknown}; spandrel cannot be imported ({first_line(error)})") from error
    if broken := [name for name, tensor in unknown.tensors.items() if not is_finite(tensor)]:
        raise WeightsError(f"{unknown.path}: damaged, not all is a finite number in {some_names(broken)}")
    try:
        descriptor = MAIN_REGISTRY.load(dict(unknown.tensors))
    except UnsupportedModelError as error:
        raise WeightsError(f"{unknown}; spandrel does not know it either") from error
    except Exception as error:  # whatever its networks raise of tensors that are not theirs
        raise WeightsError(f"{unknown.path}: spandrel cannot load it ({first_line(error)})") from error
    name = descriptor.architecture.name
    channels = descriptor.input_channels, descriptor.output_channels
    if not isinstance(descriptor, ImageModelDescriptor) or channels != (3, 3):
        raise WeightsError(f"{unknown.path}: is {name}, which does not make an RGB picture of one")
    return SpandrelNetwork(descriptor)
