"""Networks whose parameters have shapes but no numbers, to be compared with those of a file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@contextmanager
def without_numbers() -> Iterator[None]:
    """Build modules without the memory of their parameters, and without drawing random numbers."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]), _NothingRandom():
        yield


def numbers(make: Callable[[], Tensor], *shape: int) -> Tensor:
    """What `make` computes; `without_numbers`, blank: arithmetic there would import the compiler, too."""
    blank = torch.get_default_device().type == "meta"
    return torch.empty(shape) if blank else make()


class _NothingRandom(TorchFunctionMode):
    """Inside, no number is drawn: on the device meta torch would import its compiler for that, a second."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__module__", "") == "torch.nn.init" or function in (
            Tensor.normal_,
            Tensor.uniform_,
        ):
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if function is torch.randn else function)(*args, **(kwargs or {}))
