"""``steadygrad demo``: the whole story in a minute."""

from __future__ import annotations

from pathlib import Path

import click

from steadygrad.cli.place import RUNS_FOLDER, GivenPath


@click.command("demo", short_help="Train three networks that explode: plain, clipped, guarded.")
@click.option(
    "--out",
    type=GivenPath(file_okay=False, path_type=Path),
    default=RUNS_FOLDER,
    show_default=True,
    help="Folder for the run files.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of weights and data order.")
@click.option("--quick", is_flag=True, help="Train for a few seconds only.")
def command(out: Path, seed: int, quick: bool) -> None:  # noqa: FBT001 - click passes options by name
    """Train three networks that explode on real data, three ways each, and compare.

    Plain, with clip_grad_norm_(1.0), and with steadygrad.guard: same seed, same order of data.
    """
    from steadygrad.demo import run_demo

    run_demo(out, seed, quick)
