"""How far networks of convolutions look, when they are cut into tiles."""

FAR = 160
"""As far as tiles overlap to have the result of one piece, px; beyond it, they would see little else."""

NEAR = 32
"""How far they overlap otherwise, on each side."""


def tiles_reach(seen: int) -> tuple[int, bool]:
    """How far tiles are to look, and whether that makes them exact, for a network that sees so many px."""
    return (seen, True) if seen <= FAR else (NEAR, False)
