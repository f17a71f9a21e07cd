"""The families beside ESC's: which of them a file is of, and the sizes of its network."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from esc_sr.errors import WeightsError
from esc_sr.families import FAMILIES, Family, Peer, PeerConfig
from esc_sr.weights.container import first_line


def family_of(config: PeerConfig) -> Family:
    """The family of these sizes."""
    return next(family for family in FAMILIES if isinstance(config, family.config))


def recognise(tensors: Mapping[str, Tensor]) -> Family | None:
    """The family that names and shapes show, if they show one."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return next((family for family in FAMILIES if family.recognise(shapes)), None)


def infer(family: Family, tensors: Mapping[str, Tensor], path: Path) -> PeerConfig:
    """Infer the sizes of a network from its tensors; they tell, whatever a header says.

    Raises:
        WeightsError: No network of the family has these.
    """
    recognised = f"{path}: recognised as {family.name}, but"
    try:
        return family.infer({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    except KeyError as error:
        raise WeightsError(f"{recognised} tensors are missing (1: {error.args[0]})") from error
    except (ValueError, IndexError, ArithmeticError) as error:
        raise WeightsError(f"{recognised} {first_line(error)}") from error


def fresh(config: PeerConfig) -> Peer:
    """Build a network to be filled, with parameters that have shapes but no numbers: it takes no memory."""
    with torch.device("meta"):
        return family_of(config).network(config)
