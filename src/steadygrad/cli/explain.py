"""``steadygrad explain RUN``: the story of a run as text."""

from __future__ import annotations

from pathlib import Path

import click

from steadygrad.cli.place import find_run


@click.command("explain", short_help="Tell what happened in a run, where, why, what to change.")
@click.argument("run", callback=find_run)
def command(run: Path) -> None:
    """Tell what happened in RUN, where it began, why, and what to change.

    RUN is a run file, or the name of one in steadygrad-runs/. It may still be written.
    """
    from steadygrad.cli.terminal import console
    from steadygrad.report import Story
    from steadygrad.runfile import open_run

    with open_run(run) as recorded:
        console().print(Story(recorded), crop=False)
