"""The compiled library: found beside this file, loaded when first wanted, used at the wished level."""

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from esc_sr.errors import DeviceError, UsageError

LEVELS = ("generic", "avx2", "avx512", "avx512bf16", "amx")
"""Sets of processor instructions that kernels are compiled for, the best last; all have the first."""

KERNELS = (
    "attention",
    "attention gradients",
    "large convolution",
    "large convolution's weights",
    "feed-forward",
    "feed-forward gradients",
    "pointwise convolution",
    "pointwise convolution's gradients",
    "3x3 convolution",
    "LTE's decoder",
    "depthwise convolution",
)
"""What the library does, in the order of levels.h."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Types of tensors that kernels take; they compute in the first, but where `rounds` says otherwise."""

VARIABLE = "ESC_SR_NATIVE"
INTERFACE = 8  # of library.cpp

_LEFT_OUT: ContextVar[bool] = ContextVar("left out", default=False)


def available() -> bool:
    """Tell whether kernels can be used.

    Raises:
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
        DeviceError: `ESC_SR_NATIVE` names a level that is not there.
    """
    return level() is not None


def level() -> str | None:
    """Name the level in use, one of `LEVELS`; None without a library, inside `without`, or with "off".

    Raises:
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
        DeviceError: `ESC_SR_NATIVE` names a level that is not there.
    """
    return None if _LEFT_OUT.get() else _chosen(os.environ.get(VARIABLE) or "auto")


@contextmanager
def without() -> Iterator[None]:
    """Use no kernels inside, in this thread."""
    before = _LEFT_OUT.set(True)
    try:
        yield
    finally:
        _LEFT_OUT.reset(before)


def describe() -> str:
    """Say in a few words which level is in use, or why none is.

    Raises:
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
        DeviceError: `ESC_SR_NATIVE` names a level that is not there.
    """
    found = level()
    return found or (f"off, by {VARIABLE}" if os.environ.get(VARIABLE) == "off" else load()[1])


@functools.cache
def _chosen(wish: str) -> str | None:
    if wish not in ("auto", "off", *LEVELS):
        raise UsageError(f"{VARIABLE}={wish}: unknown; set it to auto, off, {', '.join(LEVELS)}")
    if wish == "off":
        return None
    library, why_not = load()
    there = [name for name in LEVELS if library and library.esc_sr_has_level(name.encode())]
    if wish == "auto":
        return there[-1] if there else None
    if wish not in there:
        why = why_not or f"not on this processor, which has {', '.join(there)}"
        raise DeviceError(f"{VARIABLE}={wish}: {why}; set it to auto")
    return wish


@functools.cache
def load() -> tuple[ctypes.CDLL | None, str]:
    """Load the library; without one, None and the reason."""
    places = (Path(__file__).with_name(f"_kernels{suffix}") for suffix in EXTENSION_SUFFIXES)
    path = next((place for place in places if place.exists()), None)
    if path is None:
        return None, "not built: no C++ compiler when esc-sr was installed (pip install -v shows more)"
    try:
        library = ctypes.CDLL(str(path))
        interface = library.esc_sr_interface()
    except (OSError, AttributeError) as error:
        return None, f"cannot be loaded: {error}"
    if interface != INTERFACE:
        return None, "made from other sources; install esc-sr again"
    library.esc_sr_sums.restype = ctypes.c_int64
    return library, ""


def looked_on() -> bool:
    """Tell whether torch records, counts or transforms what is computed, and so must see each operation.

    That is where it compiles, exports or traces, in a dispatch mode (of fake tensors, or a count of FLOPs)
    and inside of `torch.func`. Kernels, and results that are written in place, it cannot see.
    """
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None or transformed()


def transformed() -> bool:
    """Tell whether a dispatch mode or `torch.func` takes each operation, where nothing is compiled."""
    return not torch.compiler.is_compiling() and (
        torch._C._len_torch_dispatch_stack() > 0 or torch._C._functorch.peek_interpreter_stack() is not None
    )


def takes(x: Tensor) -> bool:
    """Tell whether kernels can work on tensors like this one, here and now.

    Raises:
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
        DeviceError: `ESC_SR_NATIVE` names a level that is not there.
    """
    return _lies_here(x) and not looked_on() and available()


def _lies_here(x: Tensor) -> bool:
    """Tell whether a tensor has numbers of a known type in this memory; other classes may have none."""
    return type(x) in (Tensor, Parameter) and x.device.type == "cpu" and x.dtype in DTYPES


def rounds(x: Tensor) -> bool:
    """Tell whether kernels round factors of products to bfloat16 for tensors like this one, which they take.

    They do so for bfloat16 where the level has instructions for such products. Maps may then be of that type
    or of float32, with channels side by side; everything is added up in float32.
    """
    return x.dtype == torch.bfloat16 and _rounds(level())


@functools.cache
def _rounds(chosen: str | None) -> bool:
    library, _ = load()
    return bool(library and chosen and library.esc_sr_rounds(chosen.encode()))


def check_types(*tensors: Tensor) -> None:
    """Refuse tensors that kernels, which trust their arguments, must not get.

    Raises:
        ValueError: One is of none of `DTYPES`, or of a class of its own, or not on the CPU.
    """
    for t in tensors:
        if not _lies_here(t):
            raise ValueError(
                f"{type(t).__name__} of {t.dtype} on {t.device}: pass float32, bfloat16 or float16 on the CPU"
            )


def run(kernel: str, problem: ctypes.Structure, rounding: bool = False) -> Tensor:
    """Run one of `KERNELS` on as many threads as torch uses.

    Args:
        kernel: Which one.
        problem: Its structure of levels.h, which the kernel trusts in all it says.
        rounding: Whether to round factors of products, which `rounds` allows.

    Returns:
        What the kernel adds up, float32, as its header describes it; empty if that is nothing.

    Raises:
        DeviceError: There are no kernels, or there is too little memory.
        UsageError: `ESC_SR_NATIVE` is set to something unknown.
    """
    library, why_not = load()
    chosen = level()
    if library is None or chosen is None:
        raise DeviceError(f"no compiled kernels: {why_not or 'ESC_SR_NATIVE=off'}")
    name, number, threads = chosen.encode(), KERNELS.index(kernel), torch.get_num_threads()
    count = library.esc_sr_sums(name, rounding, number, ctypes.byref(problem))
    sums = torch.empty(count, dtype=torch.float32, device="cpu")
    pointer = ctypes.c_void_p(sums.data_ptr())
    if library.esc_sr_run(name, rounding, number, threads, ctypes.byref(problem), pointer):
        raise DeviceError(f"no memory for {kernel} on {threads} threads; use fewer")
    return sums


class Strided(ctypes.Structure):
    """`Map` of levels.h: a tensor (B, C, H, W) as it lies in memory."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        *((f"stride{i}", ctypes.c_int64) for i in range(4)),
        ("half", ctypes.c_int64),
    ]

    @classmethod
    def of(cls, t: Tensor) -> "Strided":
        """Describe a tensor, which has to live as long as this is used."""
        return cls(t.data_ptr(), *t.stride(), t.dtype == torch.bfloat16)


def check_not_recording(*tensors: Tensor) -> None:
    """Refuse to do what has no gradients where they are recorded.

    Raises:
        ValueError: They are, of one of these.
    """
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        raise ValueError("there are no gradients of this; compute it under no_grad")


def pitch(channels: int) -> int:
    """Floats of a pixel in the kernels: they are filled up to a multiple of 16."""
    return -(-channels // 16) * 16


def filled(t: Tensor) -> Tensor:
    """Contiguous float32 whose last dimension is filled up by zeros to a multiple of 16."""
    return F.pad(t.float(), (0, -t.shape[-1] % 16)).contiguous()


def working(x: Tensor, rounding: bool) -> Tensor:
    """A map (B, C, H, W) as kernels read it: float32, or where they round with channels side by side."""
    if not rounding:
        return x.float()
    if x.dtype == torch.float16:
        x = x.float()
    return x if x.stride(1) == 1 else x.contiguous(memory_format=torch.channels_last)


def new_map(*shape: int, rounding: bool = False) -> Tensor:
    """A map (B, C, H, W) of what `working` makes, channels last, which is how kernels write most quickly."""
    dtype = torch.bfloat16 if rounding else torch.float32
    return torch.empty(shape, dtype=dtype, device="cpu", memory_format=torch.channels_last)
