"""What to say when a picture does not fit into memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from esc_sr.errors import DeviceError

_SIGNS = ("out of memory", "not enough memory", "can't allocate memory")  # CUDA and MPS; Windows; Linux


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Turn any failure to allocate memory, on any device, into one line about a picture or a model.

    Raises:
        DeviceError: Memory ran out inside.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in _SIGNS):
            raise
        advice = "try precision bf16, another device or a smaller picture"
        raise DeviceError(f"{what}: not enough memory; {advice}") from error
