"""Where the work is done."""

import platform
from pathlib import Path

import torch

from esc_sr.errors import DeviceError, UsageError


def pick_device(name: str = "auto") -> torch.device:
    """Find the device that a name stands for.

    Args:
        name: "cpu", "cuda", "cuda:1", "xpu", "mps"; or "auto", the accelerator if there is one, else the CPU.

    Raises:
        UsageError: No device is called so.
        DeviceError: This machine, or this build of PyTorch, has no such device, or it cannot be used.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return _tried(accelerator or torch.device("cpu"))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"no device is called {name!r}; use auto, cpu, cuda, cuda:N, xpu or mps") from error
    here = {"cpu": 1}
    if accelerator is not None:
        here[accelerator.type] = torch.accelerator.device_count()
    if (device.index or 0) >= here.get(device.type, 0):
        found = ", ".join(f"{count} x {kind}" for kind, count in here.items())
        raise DeviceError(
            f"device {name} is not here, or this PyTorch has no support for it; there is {found}"
        )
    return _tried(device)


def _tried(device: torch.device) -> torch.device:
    """The device, if it takes a tensor."""
    try:
        torch.empty(1, device=device)
    except RuntimeError as error:
        raise DeviceError(f"device {device} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def describe(device: torch.device) -> str:
    """The name of a device, for people: the GPU's, or the processor's with the number of threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        processor = names[0] if names else processor
    return f"{processor}, {torch.get_num_threads()} threads"
