"""``steadygrad runs [FOLDER]``: the runs in a folder, newest first."""

from __future__ import annotations

import time
from pathlib import Path

import click

from steadygrad.cli.place import RUNS_FOLDER


@click.command("runs", short_help="List the runs in a folder.")
@click.argument(
    "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=None, required=False
)
def command(folder: Path | None) -> None:
    """List the runs in FOLDER (default: steadygrad-runs), newest first."""
    from steadygrad.cli.terminal import console
    from steadygrad.runfile import list_runs

    where = folder or RUNS_FOLDER
    runs = list_runs(where) if where.is_dir() else []
    if not runs:
        click.echo(f"No runs in {where}. Record one with steadygrad.guard(..., run='{where}/first.steady').")
        return
    from steadygrad.report.run_table import run_lines

    out = console()
    for line in run_lines(runs, time.time()):
        out.print(line, crop=False, soft_wrap=True)
