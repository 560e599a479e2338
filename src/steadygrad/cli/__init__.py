"""The command line: one file a subcommand, each imported only when it is called."""

from steadygrad.cli.program import main

__all__ = ["main"]
