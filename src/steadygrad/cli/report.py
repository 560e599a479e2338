"""``steadygrad report RUN [RUN]``: one HTML page that tells a run, or two side by side."""

from __future__ import annotations

import time
from pathlib import Path

import click

from steadygrad.cli.place import GivenPath, find_story, replacing

MOST_RUNS = 2


@click.command("report", short_help="Write a run as one HTML page, or two runs side by side.")
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=GivenPath(path_type=Path),
    help="File to write; - is stdout. [default: the run's name in this folder]",
)
@click.option(
    "--anew", is_flag=True, help="Judge the numbers again instead of telling the recorded findings."
)
@click.pass_context
def command(ctx: click.Context, runs: tuple[str, ...], output: Path | None, *, anew: bool) -> None:
    """Write RUNS as one self-contained HTML page: one run tells its story, two are put side by side.

    A run is a run file, the name of one in steadygrad-runs/, or a folder with the files of one training on several
    ranks, which are put beside each other. It may still be written. The page
    needs nothing else: it can be mailed, and opens without a network. An earlier page of the same
    name is replaced.
    """
    if len(runs) > MOST_RUNS:
        raise click.UsageError(f"Expected one run, or two to compare; got {len(runs)}.", ctx)
    paths = [find_story(ctx, ctx.command.params[0], run) for run in runs]
    target = output or Path("-".join(path.stem for path in paths) + ".html")
    if target.is_dir():
        raise click.UsageError(f"{target} is a folder. Name a file with -o.", ctx)
    if any(target.exists() and target.samefile(path) for path in paths):
        raise click.UsageError(f"{target} is the run itself. Name another file with -o.", ctx)
    if not target.absolute().parent.is_dir():
        raise click.ClickException(f"There is no folder {target.parent} for {target}. Make it, or change -o.")
    text = _page(paths, anew=anew)
    if str(target) == "-":
        click.echo(text)
        return
    with replacing(target) as partial:
        partial.write_text(text, "utf-8", "surrogateescape")
    click.echo(f"{target.absolute().as_uri()} ({len(text.encode()) / 1e6:.1f} MB)")


def _page(paths: list[Path], *, anew: bool) -> str:
    from steadygrad.report import judge
    from steadygrad.runfile import open_run
    from steadygrad.runfile.rank_files import open_ranks

    _need_bokeh()
    from steadygrad.report.page import render, render_pair

    opened = [open_run(path) for path in paths]
    if len(opened) == MOST_RUNS:
        one, other = opened
        return render_pair(one, other, time.time(), anew=anew)
    own = opened[0]
    return render(own, judge(own) if anew else None, made_at=time.time(), ranks=open_ranks(own))


def _need_bokeh() -> None:
    from steadygrad.errors import FrameworkMissing
    from steadygrad.framework import require
    from steadygrad.runfile.drawn import OLDEST_BOKEH

    try:
        require("bokeh", OLDEST_BOKEH, extra="report")
    except FrameworkMissing as error:
        raise FrameworkMissing(f"{error} As text, without it: steadygrad explain RUN.") from None
