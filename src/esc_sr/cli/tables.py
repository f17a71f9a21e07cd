"""What a measurement tells: a table for people, and the document for machines."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from esc_sr.cli.output import for_people, print_json


def tell(found: dict[str, Any], shown: Table, notes: list[str], as_json: bool) -> None:
    """Print a table and what there is to say about it, and the document if that is wanted."""
    with for_people(as_json):
        console = Console()
        console.print(shown) if console.is_terminal else Console(width=200).print(shown)
        print(*notes, sep="\n")
    if as_json:
        print_json(found)


def empty_table(*columns: str) -> Table:
    """An empty table."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


@contextmanager
def status() -> Iterator[Callable[[str], object]]:
    """A line on stderr, if that is a terminal, that tells what is being done."""
    with Console(stderr=True).status("") as shown:
        yield shown.update
