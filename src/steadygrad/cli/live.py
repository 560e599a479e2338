"""``steadygrad live [RUN|FOLDER]``: runs while they are written."""

from __future__ import annotations

from pathlib import Path

import click

from steadygrad.cli.place import RUNS_FOLDER, find_or_await


@click.command("live", short_help="Look at runs while they are written.")
@click.argument("place", default=RUNS_FOLDER, callback=find_or_await)
@click.option("--terminal", is_flag=True, required=True, expose_value=False, help="Draw in this terminal.")
def command(place: Path) -> None:
    """Look at a run, or the runs in a folder, while they are written.

    PLACE is a run file, the name of one in steadygrad-runs/, or a folder (default: steadygrad-runs). It may not
    be there yet. Only run files are read; a training is never slowed down or spoken to. In a pipe or on a terminal
    that can't draw, what there is now is printed once.
    """
    from steadygrad.cli.terminal import console
    from steadygrad.report.screen import look_at, show

    show(look_at(place), console())
