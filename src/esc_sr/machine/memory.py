"""How much memory there is, what to say when it runs out, and maps in a file where there is too little."""

import ctypes
import math
import mmap
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from esc_sr.errors import DeviceError, UsageError

if TYPE_CHECKING:
    import torch

SAFE_PART = 0.7
"""Of the memory that is free, what a picture may take unless the user says otherwise."""

_SIGNS = ("out of memory", "not enough memory", "can't allocate memory")  # CUDA and MPS; Windows; Linux
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_GROUP_OF_PROCESS = "/proc/self/cgroup"
_CGROUPS = (  # of version 2 and 1: controllers, folder, limit, use, and what of that is no more than a cache
    ("", "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "memory",
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


class DiskFullError(DeviceError):
    """No room for maps in `scratch_folder`, although there seemed to be."""


@contextmanager
def enough_memory(what: str | None = None) -> Iterator[None]:
    """Turn any failure to allocate memory, on any device, into one line, about a picture or model if named.

    Raises:
        DeviceError: Memory ran out inside.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in _SIGNS):
            raise
        advice = "try precision bf16, another device or a smaller picture"
        raise DeviceError(f"{what + ': ' if what else ''}not enough memory; {advice}") from error


def parse_memory(text: str | int) -> int:
    """Read an amount of memory: bytes, or "512MiB", "4GiB", "1.5G"; units are powers of 1024.

    Raises:
        UsageError: Not such an amount, less than 1 byte, or 8 EiB or more.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]?)(?:i?B)?", str(text), re.IGNORECASE)
    size = float(match[1]) * 2 ** _UNITS[match[2].upper()] if match else 0
    if not 1 <= size < 2**63:
        raise UsageError(
            f"{text!r} is no amount of memory; say for example 512MiB, 4GiB or a number of bytes"
        )
    return int(size)


def show_memory(size: float) -> str:
    """Write an amount of memory in GiB, or in whole MiB, rounded up, where that is less."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20)} MiB"


def free_memory(device: "torch.device") -> int:
    """Bytes that are free on a device, to this process; where nobody tells, 4 GiB."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        known = [int(re.findall(r"MemAvailable: +(\d+)", Path("/proc/meminfo").read_text())[0]) * 1024]
    except (OSError, IndexError):
        return _free_by_sysconf()
    return max(min([*known, *_left_by_groups(), *_left_of_addresses()]), 0)


def _left_by_groups() -> Iterator[int]:
    """Bytes that are left of each limit of the control groups of this process, its own and those around it.

    They are those of containers, of services and of jobs on a cluster.
    """
    try:
        lines = Path(_GROUP_OF_PROCESS).read_text().splitlines()
    except OSError:
        lines = []
    own = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    for controllers, root, limit, used, cached in _CGROUPS:
        group = Path(root, own.get(controllers, "/").lstrip("/"))
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            with suppress(OSError, ValueError, IndexError):  # no such file, or "max"
                most, taken = (int((folder / name).read_text()) for name in (limit, used))
                spare = re.findall(rf"^{cached} (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
                yield most - taken + int(spare[0])


def _left_of_addresses() -> Iterator[int]:
    """Bytes that are left of the limit of this process' addresses, as `ulimit -v` sets it."""
    with suppress(ImportError, OSError):
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            yield most - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def keep_no_freed_memory() -> None:
    """Have blocks of 64 KiB and more go back to the system when they are freed, from now on.

    By itself glibc keeps those below 32 MiB, in pieces too small for the next ones: tens of MiB beyond what
    is in use. Other libraries do not, or cannot be told.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):
            ctypes.CDLL(None).mallopt(-3, 2**16)  # M_MMAP_THRESHOLD


def keep_freed_memory() -> None:
    """Have the process keep what it frees, from now on, for what it needs next.

    By itself glibc gives large blocks back and takes them again, with thousands of page faults in a step of
    training. Other libraries do not, or cannot be told.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(-4, 0)  # M_MMAP_MAX
            libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
            libc.mallopt(-2, 2**26)  # M_TOP_PAD


def give_back_freed_memory() -> None:
    """Give back now what was freed and kept.

    Other libraries than glibc do not, or cannot be told.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _free_by_sysconf() -> int:
    """Free memory where there is no /proc: half of what is built in, if that is told."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return 2**32


def scratch_folder() -> Path:
    """Where large temporary files go: TMPDIR if set, else /var/tmp, which is on a disk, else the system's."""
    large = Path("/var/tmp")
    return large if "TMPDIR" not in os.environ and os.access(large, os.W_OK) else Path(tempfile.gettempdir())


def free_disk() -> int:
    """Bytes that are free in `scratch_folder`; 0 where it cannot be used."""
    folder = scratch_folder()
    return shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else 0


def file_map(like: "torch.Tensor", shape: Sequence[int]) -> "torch.Tensor":
    """Make a map on the CPU that lies in a nameless file, which is gone with the map or the process.

    Args:
        like: A tensor of the same type.
        shape: Its shape.

    Raises:
        DiskFullError: The disk refuses.
    """
    import torch

    size = like.element_size() * torch.Size(shape).numel()
    try:
        with tempfile.TemporaryFile(dir=scratch_folder()) as file:
            if hasattr(os, "posix_fallocate"):  # the disk says now, not in the middle of it, that it is full
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            flat = torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=like.dtype)
            batch, channels, height, width = shape
            return flat.view(batch, height, width, channels).permute(0, 3, 1, 2)  # a band is in one place
    except OSError as error:
        raise DiskFullError(
            f"{scratch_folder()}: no room for {show_memory(size)} of maps ({error.strerror}); set TMPDIR"
        ) from error
