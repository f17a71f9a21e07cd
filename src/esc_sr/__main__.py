"""`esc-sr`, and `python -m esc_sr`: Ctrl-C ends it at once until the command line is imported."""

import signal


def main() -> None:
    """Import the command line and run it.

    An interrupted import would show its traceback, or be taken for a missing module by whoever imports.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from esc_sr.cli.main import main as run

    signal.signal(signal.SIGINT, usual)
    run()


if __name__ == "__main__":
    main()
