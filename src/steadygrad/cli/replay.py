"""``steadygrad replay BUNDLE --factory package.module:factory``: the step of an incident made again."""

from __future__ import annotations

from pathlib import Path

import click

from steadygrad.cli.factory import FORM, made_by, told
from steadygrad.cli.place import GivenPath
from steadygrad.errors import SteadygradError


@click.command("replay", short_help="Make the step of an incident again, and try what would have helped.")
@click.argument("bundle", type=GivenPath(path_type=Path))
@click.option(
    "--factory",
    "target",
    metavar="MODULE:FACTORY",
    required=True,
    help=f"What makes model, batch, loss function and optimizer: {FORM}.",
)
@click.option(
    "--try",
    "attempts",
    metavar="CHANGE",
    multiple=True,
    help="clip=1.0, lr=0.3x, lr=0.001, eps=1e-6, fp32, fp64, skip, drop-rows, policy=steady; several with commas.",
)
@click.pass_context
def command(ctx: click.Context, bundle: Path, target: str, attempts: tuple[str, ...]) -> None:
    """Make the step of an incident bundle again, as it was and with each change, side by side.

    BUNDLE is a folder such as runs/a.incidents/step-000412, which explain names. FACTORY is a function without
    arguments that returns (model, batch, loss_fn) or (model, batch, loss_fn, optimizer), as for check; weights,
    optimizer state, batch and random states are the bundle's where it has them. The exit code is 0 where the step
    reproduces, and 1 where it doesn't.
    """
    from steadygrad.cli.terminal import console
    from steadygrad.replay import open_case, parse_change, replay
    from steadygrad.replay import told as lines_of

    try:
        changes = [parse_change(text) for text in attempts]
        case = open_case(bundle)
    except SteadygradError as error:
        raise click.UsageError(str(error)) from None
    made = made_by(target)
    try:
        found = replay(case, *made, changes=changes)
    except SteadygradError as error:
        raise click.UsageError(str(error)) from None
    except Exception as fault:
        raise click.UsageError(f"the step raised {told(fault)}.") from fault
    out = console()
    for line in lines_of(found):
        out.print(line, crop=False)
    ctx.exit(0 if found.reproduced else 1)
