"""A command group that knows its subcommands by name and imports none before it is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Subcommand:
    """Where a subcommand lives, and its line in the list of ``--help``.

    Attributes:
        module: module that holds a `click.Command` called ``command``.
        short_help: one line; kept here so that the list needs no import.
    """

    module: str
    short_help: str


class LazyGroup(click.Group):
    """A `click.Group` over a table of subcommands.

    ``--help`` is instant because drawing it reads the table only: numpy, rich and sqlite3 load
    inside the command that needs them.

    Args:
        subcommands: by name, in the order in which help lists them.
        **attrs: what `click.Group` takes.
    """

    def __init__(self, *, subcommands: Mapping[str, Subcommand], **attrs: Any) -> None:
        super().__init__(**attrs)
        self.subcommands = subcommands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        del ctx
        return list(self.subcommands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one subcommand; None where there is no such name."""
        del ctx
        if cmd_name not in self.subcommands:
            return None
        command: click.Command = import_module(self.subcommands[cmd_name].module).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand, and name the nearest where there is none of that name."""
        near = get_close_matches(args[0], self.subcommands, n=1)
        if args[0] not in self.subcommands and near:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands from the table."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, sub.short_help) for name, sub in self.subcommands.items()])
