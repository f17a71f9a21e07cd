"""`python -m esc_sr` is `esc-sr`."""

from esc_sr.cli.main import main

main()
