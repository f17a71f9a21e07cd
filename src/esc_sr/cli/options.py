"""Options that several commands have."""

from typing import Annotated

import typer

Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda[:N]|xpu|mps", help="Where to compute.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; by default PyTorch decides.")]
