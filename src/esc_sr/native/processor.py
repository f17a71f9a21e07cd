"""What the processor computes."""

import functools

import torch


@functools.cache
def multiplies(precision: str) -> bool:
    """Whether this CPU has instructions for products of "bf16" or "fp16", as far as torch tells."""
    can: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(can.get(f"avx512_{precision}") or can.get(f"amx_{precision}"))
