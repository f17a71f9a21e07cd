"""`esc-sr app`: the page in the browser, and the HTTP API."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from esc_sr.app.limits import Limits
from esc_sr.app.start import DEFAULT_PORT, serve
from esc_sr.cli.options import Device, Threads
from esc_sr.machine.device import pick_device


def app(
    host: Annotated[
        str, typer.Option(help="Address to listen on; other machines then need the token that is printed.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help=f"By default {DEFAULT_PORT}, or a free one; 0 is a free one."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Has the token in its first line, in place of a new one."),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    device: Device = "auto",
    threads: Threads = None,
    max_jobs: Annotated[int, typer.Option(min=1, help="Pictures that wait, at most.")] = Limits.jobs,
    max_minutes: Annotated[float, typer.Option(min=1, help="That one picture may take.")] = Limits.job_seconds
    / 60,
) -> None:
    """Open a page in the browser to upscale pictures; the same server is an HTTP API."""
    if threads is not None:
        torch.set_num_threads(threads)
    pick_device(device)
    limits = Limits(jobs=max_jobs, job_seconds=60 * max_minutes)
    serve(
        host, port, token_file, browser, device, limits, lambda link: typer.echo(f"{link}  (Ctrl-C ends it)")
    )
