"""``steadygrad check package.module:factory``: a training looked at before it begins."""

from __future__ import annotations

import click

from steadygrad.cli.factory import made_by, told
from steadygrad.errors import SteadygradError


@click.command("check", short_help="Look at a training before it begins.")
@click.argument("target", metavar="MODULE:FACTORY")
@click.option("--try", "attempt", is_flag=True, help="Try the remedies on copies, and rank them.")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="With --try: training steps for each remedy.",
)
@click.pass_context
def command(ctx: click.Context, target: str, attempt: bool, steps: int) -> None:  # noqa: FBT001
    """Look at one training step, and a few on a copy, before the training begins.

    FACTORY is a function without arguments that returns (model, batch, loss_fn) or
    (model, batch, loss_fn, optimizer); MODULE is package.module or a file.py. The exit code is 0 where
    nothing worse than a note was found, 1 where something was, and 2 where the training can't be looked at.
    """
    made = made_by(target)
    from steadygrad.checkup import check

    try:
        found = check(*made)
    except SteadygradError as error:
        raise click.UsageError(str(error)) from None
    except Exception as fault:
        raise click.UsageError(f"one training step raised {told(fault)}.") from fault
    click.echo(found)
    if attempt:
        click.echo()
        click.echo(found.try_remedies(steps))
    ctx.exit(0 if found.ok else 1)
