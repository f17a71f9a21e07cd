"""How large a picture becomes: a factor, or the length of a side. Needs no torch."""

from dataclasses import dataclass

from esc_sr.errors import UsageError

LARGEST = 64
"""The greatest factor that can be asked for."""

MOST = 2**31 - 1
"""The longest side that can be asked for, in pixels."""

_SIDES = {
    "width": "wide",
    "height": "high",
    "longest": "at the longest side",
    "shortest": "at the shortest side",
}


@dataclass(frozen=True)
class Size:
    """A wish for the size of the result.

    Attributes:
        of: What is wished: "scale", or of the result "width", "height", "longest" (side) or "shortest".
        value: A factor from 1 to `LARGEST`, or whole pixels from 1 to `MOST`.

    Raises:
        UsageError: It is none of these.
    """

    of: str
    value: float

    def __post_init__(self) -> None:
        if self.of == "scale":
            if not 1 <= self.value <= LARGEST:
                raise UsageError(
                    f"scale {_shown(self.value)} is not between 1 and {LARGEST}; pictures are only enlarged"
                )
        elif self.of not in _SIDES:
            raise UsageError(f"a size is of scale, {', '.join(_SIDES)}, not of {self.of!r}")
        elif not 1 <= self.value <= MOST or self.value != int(self.value):
            raise UsageError(
                f"{self.of} {_shown(self.value)} is no number of pixels; say a whole one from 1 to {MOST}"
            )

    @property
    def label(self) -> str:
        """What it adds to the name of a file, unless that is chosen: "2x", "2.5x", "1920px"."""
        return f"{self.value:g}x" if self.of == "scale" else f"{self.value:.0f}px"

    def __str__(self) -> str:
        """As people read it: "x2.5", "1920 px wide"."""
        return f"x{self.value:g}" if self.of == "scale" else f"{self.value:.0f} px {_SIDES[self.of]}"

    def scale(self, height: int, width: int) -> float:
        """The factor for a picture of some pixels.

        Raises:
            UsageError: It is not between 1 and `LARGEST`.
        """
        if self.of == "scale":
            return self.value
        sides = {
            "width": width,
            "height": height,
            "longest": max(height, width),
            "shortest": min(height, width),
        }
        factor = self.value / sides[self.of]
        if not 1 <= factor <= LARGEST:
            raise UsageError(
                f"{width} x {height} to {self} is x{factor:.3g}; pictures are enlarged, at most x{LARGEST}"
            )
        return factor

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result for a picture of some pixels, rounded.

        Raises:
            UsageError: As `scale`.
        """
        scale = self.scale(height, width)
        return round(height * scale), round(width * scale)


def _shown(value: float) -> str:
    """A value as errors show it; an int may be more than any float."""
    return f"{value:g}" if not abs(value) > MOST else f"beyond {MOST}"


def plain(factor: float) -> float:
    """A factor as it is shown: with six digits at most, and a whole one as an int."""
    shown = float(f"{factor:g}")
    return int(shown) if shown.is_integer() else shown


def as_size(scale: float | Size) -> Size:
    """A factor, or a size already, as a size."""
    return scale if isinstance(scale, Size) else Size("scale", scale)


def wish(**given: float | None) -> Size | None:
    """The one size that is given, if any, by the names that `Size.of` has.

    Raises:
        UsageError: There are several, or it is out of range.
    """
    wishes = {of: value for of, value in given.items() if value is not None}
    if len(wishes) > 1:
        raise UsageError(f"--{' and --'.join(wishes)} are wishes for one size; say one of them")
    return next((Size(of, value) for of, value in wishes.items()), None)
