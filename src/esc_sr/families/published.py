"""Families whose own names are those of published checkpoints, perhaps with other dialects beside them."""

import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from esc_sr.families.family import Detected, Family, Shapes, Tensors, shapes_of
from esc_sr.families.renaming import rename

Rows = tuple[tuple[str, str], ...]
"""Names of others and ours, as `rename` takes them."""


class PublishedFamily(Family):
    """Told by a name that only its networks have.

    Attributes:
        mark: A pattern that the beginning of such a name fits, of ours.
        computed: A pattern of names of buffers that are in files and follow from the sizes.
    """

    mark: str
    computed: str = "(?!)"

    @abstractmethod
    def infer(self, shapes: Shapes, encoder: bool = False) -> Any:
        """Tell the sizes from shapes by our names; errors as of `Family.detect`, with our name."""

    def dialects(self, names: Iterable[str]) -> Mapping[str, Rows]:
        """The other names that its checkpoints have, by who has them; perhaps for sizes that names show."""
        return {}

    def constants(self, config: Any) -> dict[str, Tensor]:
        """Tensors that dialects leave out, since all networks have the same."""
        return {}

    def recognises(self, names: Iterable[str]) -> bool:
        """As `Family.recognises`."""
        names = list(names)
        tables = ((), *self.dialects(names).values())
        return any(re.match(self.mark, name) for rows in tables for name in self._ours(names, rows).values())

    def named(self, config: Any, sizes: str) -> str:
        """The preset's name and the scale, or the family's, the scale and the sizes."""
        name = self.variant(config)
        return f"{name} x{config.scale}" if name else f"{self.name} x{config.scale} of {sizes}"

    @staticmethod
    def _ours(names: Iterable[str], rows: Rows) -> dict[str, str]:
        """Our names by those of a dialect, which has some of ours too."""
        return {name: name for name in names} | rename(names, rows)

    def detect(self, tensors: Tensors, encoder: bool = False) -> Detected | None:
        """As `Family.detect`."""
        weights = [name for name in tensors if not re.fullmatch(self.computed, name)]
        for dialect, rows in (("authors", ()), *self.dialects(weights).items()):
            names = self._ours(weights, rows)
            if not any(re.match(self.mark, name) for name in names.values()):
                continue
            shapes = {names[name]: shape for name, shape in shapes_of(tensors).items() if name in names}
            try:
                config = self.infer(shapes, encoder)
            except KeyError as error:
                missing = str(error.args[0])
                theirs = rename([missing], [(ours, theirs) for theirs, ours in rows])
                raise KeyError(theirs.get(missing, missing)) from error
            return Detected(config, names, dialect, self.constants(config) if rows else {})
        return None


def expect(shapes: Shapes, tensors: int) -> None:
    """Refuse, before it is built, a network of which most is missing.

    Raises:
        ValueError: There is less than half of so many tensors.
    """
    if 2 * len(shapes) < tensors:
        raise ValueError(f"of about {tensors} tensors it has no more than {len(shapes)}")
