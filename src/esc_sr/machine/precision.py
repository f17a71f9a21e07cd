"""The precisions that a network's arithmetic can have."""

import torch

from esc_sr.errors import UsageError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(name: str) -> None:
    """Refuse a precision that there is not.

    Raises:
        UsageError: It is none of `PRECISIONS`.
    """
    if name not in PRECISIONS:
        raise UsageError(f"no precision is called {name!r}; use {', '.join(PRECISIONS)}")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Compute inside in one of `PRECISIONS`: below fp32, autocast decides per layer."""
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
