"""``steadygrad live [RUN|FOLDER]``: runs while they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from steadygrad.cli.place import RUNS_FOLDER, find_or_await

METRICS_PORT = 9477


@click.command("live", short_help="Look at runs while they are written.")
@click.argument("place", default=RUNS_FOLDER, callback=find_or_await)
@click.option("--terminal", is_flag=True, help="Draw in this terminal.")
@click.option("--metrics", is_flag=True, help="Serve the numbers of all runs to Prometheus.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help=f"Port; 0 takes a free one. [default: {METRICS_PORT}]"
)
@click.option("--address", default="127.0.0.1", help="Interface for --metrics. [default: only this machine]")
def command(place: Path, *, terminal: bool, metrics: bool, port: int | None, address: str) -> None:
    """Look at a run, or the runs in a folder, while they are written.

    PLACE is a run file, the name of one in steadygrad-runs/, or a folder (default: steadygrad-runs). It may not
    be there yet. Only run files are read; a training is never slowed down or spoken to. In a pipe or on a terminal
    that can't draw, --terminal prints once what there is now.
    """
    if terminal == metrics:
        raise click.UsageError("Choose one of --terminal and --metrics.")
    if terminal:
        _show(place)
    else:
        _serve_metrics(place, METRICS_PORT if port is None else port, address)


def _show(place: Path) -> None:
    from steadygrad.cli.terminal import console
    from steadygrad.report.screen import look_at, show

    show(look_at(place), console())


def _serve_metrics(place: Path, port: int, address: str) -> None:
    from steadygrad.framework import require

    require("prometheus-client", "0.20", extra="prometheus")
    from steadygrad.report.metrics import metrics_server

    with _naming(port, address):
        server = metrics_server(place, port, address)
    name = f"[{address}]" if ":" in address else address
    click.echo(
        f"{place} is served at http://{name}:{server.server_port}/metrics; Ctrl-C ends this.", err=True
    )
    with server, suppress(KeyboardInterrupt):
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
