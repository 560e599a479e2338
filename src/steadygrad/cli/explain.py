"""``steadygrad explain RUN``: the story of a run as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from steadygrad.cli.place import find_story

if TYPE_CHECKING:
    from rich.console import RenderableType

    from steadygrad.bundles import Bundle
    from steadygrad.runfile import Run

MOST_BUNDLES = 6


@click.command("explain", short_help="Tell what happened in a run, where, why, what to change.")
@click.argument("run", callback=find_story)
@click.option(
    "--anew", is_flag=True, help="Judge the numbers again instead of telling the recorded findings."
)
def command(run: Path, *, anew: bool) -> None:
    """Tell what happened in RUN, where it began, why, and what to change.

    RUN is a run file, or the name of one in steadygrad-runs/. It may still be written. It may also be a folder with
    the files of one training on several ranks: then the first rank tells the story, and what the others say
    differently comes after it.
    """
    from steadygrad.bundles import bundles_of
    from steadygrad.cli.terminal import console
    from steadygrad.report import Story, judge
    from steadygrad.runfile import open_run

    with open_run(run) as recorded:
        console().print(Story(recorded, judge(recorded) if anew else None), crop=False)
        for line in _ranks(recorded):
            console().print(line, crop=False)
        for line in _told(bundles_of(run, recorded.info.started)):
            console().print(line, crop=False, soft_wrap=True)


def _ranks(recorded: Run) -> Iterator[RenderableType]:
    """What the files of all ranks tell together."""
    from steadygrad.report.layout import Heading, Paragraph
    from steadygrad.report.ranks import skew, told
    from steadygrad.runfile.rank_files import open_ranks

    runs = open_ranks(recorded)
    if not runs:
        return
    yield Heading("Ranks")
    for line in told(runs, skew(runs)):
        yield Paragraph(line, label_width=0)


def _told(bundles: list[Bundle]) -> Iterator[RenderableType]:
    """The incident bundles of the run, and the command that replays one."""
    from steadygrad.report.layout import Code, Heading, Paragraph

    if not bundles:
        return
    yield Heading("Incident bundles")
    for bundle in bundles[:MOST_BUNDLES]:
        place = f"{bundle.action}, batch and state in {bundle.path}"
        yield Paragraph(place, f"step {bundle.step:,}", label_width=14)
    if len(bundles) > MOST_BUNDLES:
        yield Paragraph(f"and {len(bundles) - MOST_BUNDLES:,} more", label_width=14)
    yield Paragraph("make the first of these steps again, and try what would have helped:", label_width=0)
    yield Code(f"{bundles[0].command} --try clip=1.0 --try lr=0.3x", indent=4)
