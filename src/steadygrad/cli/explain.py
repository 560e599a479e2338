"""``steadygrad explain RUN``: the story of a run as text."""

from __future__ import annotations

from pathlib import Path

import click

from steadygrad.cli.place import find_run


@click.command("explain", short_help="Tell what happened in a run, where, why, what to change.")
@click.argument("run", callback=find_run)
@click.option(
    "--anew", is_flag=True, help="Judge the numbers again instead of telling the recorded findings."
)
def command(run: Path, *, anew: bool) -> None:
    """Tell what happened in RUN, where it began, why, and what to change.

    RUN is a run file, or the name of one in steadygrad-runs/. It may still be written.
    """
    from steadygrad.cli.terminal import console
    from steadygrad.report import Story, judge
    from steadygrad.runfile import open_run

    with open_run(run) as recorded:
        console().print(Story(recorded, judge(recorded) if anew else None), crop=False)
