"""`esc-sr analyze`: the paper's analyses as figures, with the numbers beside them."""

import typer

from esc_sr.cli.analyze import (
    ablation,
    attention,
    compare,
    features,
    kernels,
    lam,
    receptive_field,
    similarity,
)

app = typer.Typer(no_args_is_help=True)
app.command()(similarity.similarity)
app.command()(features.features)
app.command()(lam.lam)
app.command()(receptive_field.receptive_field)
app.command()(kernels.kernels)
app.command()(attention.attention)
app.command()(compare.compare)
app.command()(ablation.ablation)


@app.callback()
def main() -> None:
    """Look into networks as the paper does (Figures 2 and 5 to 9, Table 3)."""
