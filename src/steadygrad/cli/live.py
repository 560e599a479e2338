"""``steadygrad live [RUN|FOLDER]``: runs while they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from steadygrad.cli.place import RUNS_FOLDER, find_or_await, refuse_foreign

ADDRESS, PAGE_PORT, METRICS_PORT = "127.0.0.1", 5006, 9477
OLDEST_BOKEH, OLDEST_PROMETHEUS = "3.7", "0.20"
POLITENESS = 5
"""Added to the niceness: where cores are scarce, a training goes first."""


@click.command("live", short_help="Look at runs while they are written.")
@click.argument("place", default=RUNS_FOLDER, callback=find_or_await)
@click.option("--terminal", is_flag=True, help="Draw in this terminal instead of a browser.")
@click.option("--metrics", is_flag=True, help="Serve the numbers of all runs to Prometheus instead.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Port; 0 takes a free one. [default: {PAGE_PORT}, for metrics {METRICS_PORT}]",
)
@click.option("--address", help="Interface for --metrics. [default: this machine only]")
def command(place: Path, *, terminal: bool, metrics: bool, port: int | None, address: str | None) -> None:
    """Look at a run, or the runs in a folder, while they are written: as a page for a browser on this machine.

    PLACE is a run file, the name of one in steadygrad-runs/, or a folder (default: steadygrad-runs). It may not
    be there yet. Only run files are read; a training is never slowed down or spoken to. In a pipe or on a terminal
    that can't draw, --terminal prints once what there is now.
    """
    if terminal and metrics:
        raise click.UsageError("Choose one of --terminal and --metrics.")
    if address is not None and not metrics:
        raise click.UsageError(
            "--address is for --metrics: a page is for this machine only. Use ssh -L to see it."
        )
    refuse_foreign(place)
    with suppress(AttributeError, OSError):
        os.nice(POLITENESS)
    if terminal:
        _show(place)
    elif metrics:
        _serve_metrics(place, METRICS_PORT if port is None else port, address or ADDRESS)
    else:
        _serve_pages(place, PAGE_PORT if port is None else port)


def _show(place: Path) -> None:
    from steadygrad.cli.terminal import console
    from steadygrad.report.screen import look_at, show

    show(look_at(place), console())


def _serve_pages(place: Path, port: int) -> None:
    from steadygrad.errors import FrameworkMissing
    from steadygrad.framework import require

    try:
        require("bokeh", OLDEST_BOKEH, extra="report")
    except FrameworkMissing as error:
        raise FrameworkMissing(f"{error} Without it: steadygrad live --terminal.") from None
    from steadygrad.report.live import LiveServer

    with _naming(port, ADDRESS):
        server = LiveServer(place, port)
    with suppress(KeyboardInterrupt):
        when = "while it is written" if place.exists() else "once it is there, which it isn't yet"
        click.echo(f"{place} is shown at {server.url} {when}; Ctrl-C ends this.", err=True)
        server.run()


def _serve_metrics(place: Path, port: int, address: str) -> None:
    from steadygrad.framework import require

    require("prometheus-client", OLDEST_PROMETHEUS, extra="prometheus")
    from steadygrad.report.metrics import metrics_server

    with _naming(port, address):
        server = metrics_server(place, port, address)
    name = f"[{address}]" if ":" in address else address
    with server, suppress(KeyboardInterrupt):
        click.echo(
            f"{place} is served at http://{name}:{server.server_port}/metrics; Ctrl-C ends this.", err=True
        )
        server.serve_forever()


@contextmanager
def _naming(port: int, address: str) -> Iterator[None]:
    """Say which port it was that can't be had, and what to do."""
    try:
        yield
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise click.ClickException(
            f"Can't listen on port {port} of {address} ({reason}). Choose another with --port; 0 takes a free one."
        ) from None
