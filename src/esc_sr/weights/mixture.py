"""A network between two others."""

from copy import deepcopy

import torch

from esc_sr import families
from esc_sr.errors import WeightsError
from esc_sr.families.contract import Network


def mix(strong: Network, weak: Network, denoise: float) -> Network:
    """Make the network whose weights are the weighted mean of those of two, one trained from the other.

    Deep network interpolation (Wang et al., "Deep Network Interpolation for Continuous Imagery Effect
    Transition", CVPR 2019), by which Real-ESRGAN (Wang et al., ICCVW 2021) sets how much noise its general
    model takes away. Networks that were not trained one from the other have no mean that is of use.

    Args:
        strong: Takes away more noise.
        weak: A network of the same sizes that takes away less; on the same device.
        denoise: Share of the strong one, 0..1; 0 has the numbers of the weak, 1 those of the strong one.

    Returns:
        A new network in float32, (B, 3, H, W) in 0..1 to (B, 3, sH, sW) as both of them: each floating tensor
        is denoise * strong + (1 - denoise) * weak, all else is the strong one's.

    Raises:
        WeightsError: The networks have other sizes.
    """
    if strong.config != weak.config:
        sizes = " and ".join(families.describe(network.config) for network in (strong, weak))
        raise WeightsError(f"{sizes} have no mean; both have to be of the same sizes")
    mixed, others = deepcopy(strong).float(), weak.state_dict()
    for name, value in mixed.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.lerp(others[name].to(value.dtype), value, denoise))
    return mixed
