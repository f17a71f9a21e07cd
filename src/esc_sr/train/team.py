"""The processes that train together, one per device, as torchrun starts them."""

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from esc_sr.errors import DeviceError
from esc_sr.machine.device import pick_device

PATIENCE = timedelta(hours=2)
"""How long a process waits for one that is silent, such as the first while it validates. One that has ended
is noticed at once."""

_BACKENDS = {"cuda": "cpu:gloo,cuda:nccl"}


@dataclass(frozen=True)
class Team:
    """This process among those that train together; everything is done alone where it is the only one.

    Attributes:
        rank: of this process, from 0. The first one leads: it reports, saves, validates, and has the clock.
        size: how many there are.
        local_size: how many of them are on this machine.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @classmethod
    def here(cls) -> "Team":
        """As torchrun says in the environment; without it, this process is alone."""
        told = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"} | os.environ
        return cls(int(told["RANK"]), int(told["WORLD_SIZE"]), int(told["LOCAL_WORLD_SIZE"]))

    @property
    def leads(self) -> bool:
        """Whether this is the first process."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, with the first one's weights and a backward that leaves the team's mean gradient."""
        return network if self.size == 1 else DistributedDataParallel(network)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the team, of a tensor of the same shape in each; it may be changed."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def average(self, parameters: Iterable[Tensor]) -> None:
        """Put the team's mean gradient in the place of each parameter's own."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.size > 1 and gradients:
            vector_to_parameters(self.mean(parameters_to_vector(gradients)), gradients)

    def agree(self, stop: bool, elapsed: float) -> tuple[bool, float]:
        """Whether any process has been told to stop, and the seconds elapsed by the first one's clock."""
        if self.size == 1:
            return stop, elapsed
        found = torch.tensor([float(stop), elapsed if self.leads else 0.0], dtype=torch.float64)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found[0]), float(found[1])

    def largest(self, value: int) -> int:
        """The largest of what the processes have."""
        if self.size == 1:
            return value
        found = torch.tensor(value)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    @contextmanager
    def connected(self, device: torch.device) -> Iterator[None]:
        """Connect the processes until the end of the block.

        Args:
            device: that this one trains on.

        Raises:
            DeviceError: another process has ended, or cannot be reached.
        """
        if self.size == 1:
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        try:
            dist.init_process_group(_BACKENDS.get(device.type, "gloo"), timeout=PATIENCE)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Grad strides do not match")  # of sides of 1: harmless
                yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and "gloo" not in str(error):
                raise
            raise DeviceError(
                f"process {self.rank} of {self.size}: another one has ended, or cannot be reached; "
                "its own message says why, --resume goes on from the last checkpoint"
            ) from error
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()


ALONE = Team()


def own_device(name: str) -> torch.device:
    """The device that a name means to this process; in a team, "cuda" is one for each on a machine.

    Args:
        name: as of `pick_device`; in a team, "auto" is "cuda" where there is one.

    Raises:
        UsageError: no device is called so.
        DeviceError: it is not there, or cannot be used.
    """
    if Team.here().size > 1 and (name == "cuda" or (name == "auto" and torch.cuda.is_available())):
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return pick_device(name)
