from __future__ import annotations

from importlib import import_module

import click
import pytest

from steadygrad.cli.program import SUBCOMMANDS, program


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_table_says_what_the_command_says(name):
    command = import_module(SUBCOMMANDS[name].module).command
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.short_help == SUBCOMMANDS[name].short_help


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_lists_every_subcommand_with_its_line(name):
    text = program.get_help(click.Context(program, terminal_width=200, **program.context_settings))
    assert f"{name} " in text
    assert SUBCOMMANDS[name].short_help in text


def test_unknown_subcommand_is_none():
    assert program.get_command(click.Context(program, **program.context_settings), "nothing") is None
