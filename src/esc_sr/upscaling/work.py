"""How much work a file may be, by its header, without being allowed more."""

from esc_sr.errors import ImageError

MAX_WORK = 2**27
"""The most pixels of a file, all frames together, that the network is given without being allowed to."""

_LEAST = 64 * 64  # pixels that a frame counts for, however small


def work_of(frames: int, height: int, width: int) -> int:
    """How many pixels a file counts for, all frames together: each of these for 64 x 64 or more."""
    return frames * max(height * width, _LEAST)


def limit_work(name: str, frames: int, height: int, width: int) -> None:
    """Refuse what would keep the network busy for hours.

    Raises:
        ImageError: The file has more than `MAX_WORK` pixels.
    """
    if work_of(frames, height, width) > MAX_WORK:
        raise ImageError(
            f"{name}: {frames} x {width} x {height} pixels are hours of work, and at most "
            f"{MAX_WORK} are taken, {_LEAST} for each frame or more; "
            "--allow-large (in Python allow_large=True) takes any"
        )
