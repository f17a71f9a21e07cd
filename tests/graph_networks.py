"""Networks of no training that become graphs."""

import torch

from esc_sr import families
from esc_sr.families.contract import Config, Network
from esc_sr.families.esc import ESCConfig

TINY = ESCConfig(dim=8, pdim=4, kernel=5, n_blocks=1, n_convattn=1, window=8, heads=2)


def built(config: Config) -> Network:
    """The same network each time, in evaluation mode."""
    torch.manual_seed(0)
    network = families.build(config).eval()
    for parameter in network.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return network
