"""``steadygrad export RUN --to csv|parquet|tensorboard``: the numbers for another program."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from steadygrad.cli.place import GivenPath, cant_write, find_run, replacing

if TYPE_CHECKING:
    from steadygrad.runfile import Run

Form = Literal["csv", "parquet", "tensorboard"]
STDOUT = Path("-")


@click.command("export", short_help="Write a run's numbers as CSV, Parquet or TensorBoard files.")
@click.argument("run", callback=find_run)
@click.option(
    "--to",
    "form",
    type=click.Choice(["csv", "parquet", "tensorboard"]),
    required=True,
    help="Format to write.",
)
@click.option(
    "-o",
    "--output",
    type=GivenPath(path_type=Path),
    help="File to write, for tensorboard a folder; - is stdout, for csv. [default: the run's name in this folder]",
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there already.")
def command(run: Path, form: Form, output: Path | None, force: bool) -> None:  # noqa: FBT001
    """Write RUN as a table: one row a step, one column for each logged number and each tensor.

    Old rows of a long run may stand for many steps: their number is in the column resolution, and
    their norms are means. For TensorBoard, findings are written as texts too.
    """
    from steadygrad.runfile import open_run

    target = output or Path(f"{run.stem}.{form}")
    if target == STDOUT and form != "csv":
        raise click.UsageError(f"{form} is binary and can't go to stdout. Name another place with -o.")
    if target.is_dir() and form != "tensorboard":
        raise click.UsageError(f"{target} is a folder. Name a file with -o.")
    if target.exists() and target.samefile(run):
        raise click.UsageError(f"{target} is the run itself. Name another file with -o.")
    if target.exists() and not force:
        raise click.UsageError(f"{target} is there already. Name another file with -o, or add --force.")
    if not target.parent.is_dir():
        raise click.ClickException(f"There is no folder {target.parent} for {target}. Make it, or change -o.")
    with open_run(run) as recorded:
        if form == "tensorboard":
            _export_events(recorded, target)
        else:
            _export(recorded, form, target)


def _export_events(run: Run, target: Path) -> None:
    from steadygrad.sinks import write_tensorboard

    try:
        steps = write_tensorboard(run, target)
    except OSError as error:
        raise click.ClickException(cant_write(target, error)) from None
    click.echo(f"{steps:,} steps written to {target}; next: tensorboard --logdir {target}")


def _export(run: Run, form: Form, target: Path) -> None:
    from steadygrad.report import write_csv, write_parquet

    if target == STDOUT:
        write_csv(run, sys.stdout)
        return
    with replacing(target) as partial:
        if form == "parquet":
            write_parquet(run, partial)
        else:
            with partial.open("w", encoding="utf-8", newline="") as stream:
                write_csv(run, stream)
    click.echo(f"{len(run.steps):,} rows written to {target}")
