"""What outputs are called."""

import os
import string
from dataclasses import dataclass
from pathlib import Path

from esc_sr.errors import UsageError
from esc_sr.image import read_size

DEFAULT_NAME = "{stem}_{scale}x"
FIELDS = ("stem", "scale", "model", "width", "height")


@dataclass(frozen=True)
class Names:
    """A template for the names of outputs, without their suffix.

    Attributes:
        template: Text with fields of `FIELDS` in braces, which may have a format, such as "{width:05}".
        scale: How many times larger the outputs are.
        model: What the network is called.

    Raises:
        UsageError: Another field, or no name comes out.
    """

    template: str = DEFAULT_NAME
    scale: int = 2
    model: str = ""

    def __post_init__(self) -> None:
        self._fill("stem", (1, 1))

    def of(self, source: Path, suffix: str) -> str:
        """The name of the output of a picture; only for width and height is the picture's header read.

        Raises:
            UsageError: No name comes out, or one with a path separator.
            ImageError: The picture has no size.
        """
        sized = any(field in ("width", "height") for field in self._fields())
        height, width = read_size(source) if sized else (1, 1)
        return self._fill(source.stem, (self.scale * height, self.scale * width)) + suffix

    def _fields(self) -> list[str]:
        """The fields of the template.

        Raises:
            ValueError: Braces that do not match, or inside a field's format.
        """
        parts = list(string.Formatter().parse(self.template))
        if any("{" in (form or "") for _, _, form, _ in parts):
            raise ValueError("braces inside a field")
        return [field for _, field, _, _ in parts if field is not None]

    def _fill(self, stem: str, size: tuple[int, int]) -> str:
        """The template with its fields filled in; the size is the output's height and width."""
        allowed = ", ".join(f"{{{field}}}" for field in FIELDS)
        try:
            if unknown := [field for field in self._fields() if field not in FIELDS]:
                raise ValueError(f"no field is called {unknown[0]!r}")
            name = self.template.format(
                stem=stem, scale=self.scale, model=self.model, width=size[1], height=size[0]
            )
        except ValueError as error:
            raise UsageError(f"name {self.template!r}: {error}; use text and {allowed}") from error
        if not name or any(separator in name for separator in (os.sep, os.altsep) if separator):
            raise UsageError(
                f"name {self.template!r}: makes {name!r}, which is no file name; -o names the folder"
            )
        return name
