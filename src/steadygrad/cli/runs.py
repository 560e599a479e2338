"""``steadygrad runs [FOLDER]``: the runs in a folder, newest first."""

from __future__ import annotations

import time
from pathlib import Path

import click

from steadygrad.cli.place import RUNS_FOLDER, GivenPath


def _folder(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is None or value.is_dir():
        return value
    if value.exists():
        message = (
            f"{value} is a file; expected a folder. If it is a run, `steadygrad explain {value}` tells it."
        )
    else:
        message = f"There is no folder {value}."
    raise click.BadParameter(message, ctx, param)


@click.command("runs", short_help="List the runs in a folder.")
@click.argument("folder", type=GivenPath(path_type=Path), callback=_folder, default=None, required=False)
@click.option(
    "--ill",
    is_flag=True,
    help="Only runs with a warning or an error, or a norm that isn't finite: the worst first.",
)
def command(folder: Path | None, *, ill: bool) -> None:
    """List the runs in FOLDER (default: steadygrad-runs), newest first.

    A sweep leaves hundreds: --ill picks out those to look at.
    """
    from steadygrad.cli.terminal import console
    from steadygrad.runfile import list_runs

    where = folder or RUNS_FOLDER
    runs = list_runs(where) if where.is_dir() else []
    if not runs:
        click.echo(f"No runs in {where}. Record one with steadygrad.guard(..., run='{where}/first.steady').")
        return
    from steadygrad.report.run_table import ill_first, run_lines

    out = console()
    shown = ill_first(runs) if ill else runs
    for line in run_lines(shown, time.time()) if shown else ():
        out.print(line, crop=False, soft_wrap=True)
    if ill:
        click.echo(f"{len(shown)} of {len(runs)} runs in {where} {'is' if len(shown) == 1 else 'are'} ill.")
