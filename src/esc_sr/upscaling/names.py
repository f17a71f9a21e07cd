"""What outputs are called."""

import os
import re
import string
from dataclasses import dataclass
from pathlib import Path

from esc_sr.errors import UsageError
from esc_sr.upscaling import DEFAULT_NAME, DEFAULT_SCALE
from esc_sr.upscaling.places import Place, header_in
from esc_sr.upscaling.sizes import Size, plain

_LONGEST = 255  # of a name, on most disks
FIELDS = ("stem", "suffix", "size", "scale", "model", "width", "height")


@dataclass(frozen=True)
class Names:
    """A template for the names of outputs, without their suffix.

    Attributes:
        template: Text with fields of `FIELDS` in braces, which may have a format, such as "{width:05}".
            "suffix" is the input's, without its dot; "size" is `Size.label`, the same for all; "scale" is
            each picture's own factor.
        size: What the pictures become.
        model: What the network is called.

    Raises:
        UsageError: Another field, or no name comes out.
    """

    template: str = DEFAULT_NAME
    size: Size = Size("scale", DEFAULT_SCALE)
    model: str = ""

    def __post_init__(self) -> None:
        self._fill(Path("stem.png"), 1, (1, 1))

    def of(self, source: Place, suffix: str) -> str:
        """The name of the output of a picture, whose header is read only where the name depends on it.

        Raises:
            UsageError: No name comes out, or one with a path separator; or the picture cannot have the size.
            ImageError: The picture has no size.
        """
        known = {"stem", "suffix", "size", "model", *(["scale"] if self.size.of == "scale" else [])}
        if known.issuperset(self._fields()):
            return self._fill(source, self.size.value, (1, 1)) + suffix
        sides = header_in(source).sides
        try:
            return self._fill(source, self.size.scale(*sides), self.size.target(*sides)) + suffix
        except UsageError as error:
            raise UsageError(f"{source}: {error}") from error

    def _fields(self) -> list[str]:
        """The fields of the template.

        Raises:
            ValueError: Braces that do not match, or inside a field's format, which may be too wide.
        """
        parts = list(string.Formatter().parse(self.template))
        if any("{" in (form or "") for _, _, form, _ in parts):
            raise ValueError("braces inside a field")
        if any(
            int(number) > _LONGEST for _, _, form, _ in parts for number in re.findall(r"\d+", form or "")
        ):
            raise ValueError(f"a field of more than {_LONGEST} characters")
        return [field for _, field, _, _ in parts if field is not None]

    def _fill(self, source: Place, scale: float, target: tuple[int, int]) -> str:
        """The template with its fields filled in; the target is the output's height and width."""
        allowed = ", ".join(f"{{{field}}}" for field in FIELDS)
        try:
            if unknown := [field for field in self._fields() if field not in FIELDS]:
                raise ValueError(f"no field is called {unknown[0]!r}")
            name = self.template.format(
                stem=source.stem,
                suffix=source.suffix[1:],
                size=self.size.label,
                scale=plain(scale),
                model=self.model,
                width=target[1],
                height=target[0],
            )
        except ValueError as error:
            raise UsageError(f"name {self.template!r}: {error}; use text and {allowed}") from error
        if not name or any(separator in name for separator in (os.sep, os.altsep, "\0") if separator):
            raise UsageError(
                f"name {self.template!r}: makes {name!r}, which is no file name; -o names the folder"
            )
        return name
